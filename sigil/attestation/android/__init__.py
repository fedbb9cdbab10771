"""Android Key Attestation."""
