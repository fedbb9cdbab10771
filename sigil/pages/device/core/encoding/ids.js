// Ids of challenges, requests and enrolments: UUID version 4 in lower case (RFC 9562).

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

export const isUuid = (text) => UUID.test(text);
