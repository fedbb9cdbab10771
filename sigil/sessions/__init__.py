"""What challenges and approvals share: device references, long polls, capacity, expiry."""
