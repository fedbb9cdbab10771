"""The device's side of enrolment (docs/protocol.md, 5.5): `EnrolmentClient` and `AsyncEnrolmentClient` share `steps`,
which has every check and does no I/O. `pending` keeps an enrolment on disk between its steps."""
