"""Rules of approval requests: state, votes, quorum, fan-out."""
