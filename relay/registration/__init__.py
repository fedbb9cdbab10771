"""Registration: devices, trusted servers, nonces, and the origins that may register."""
