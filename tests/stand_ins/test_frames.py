"""Every fault of a provider's HTTP/2, frame by frame through h2."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import pytest
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes

from deploy.providers.http.frames import END_HEADERS, END_STREAM, PADDED, PRIORITY_GIVEN, Kind, frame
from tests.stand_ins.clients import ALERT, H2Client, apns_headers
from tests.support.live import wait_until
from tests.support.providers import Providers, apns_token


@pytest.fixture
def peer(providers: Providers) -> Iterator[H2Client]:
    """A connection whose provider token was accepted."""
    with H2Client(providers) as peer:
        peer.response(peer.push())
        yield peer


def streams_allowed(peer: H2Client) -> int:
    limit = SettingCodes.MAX_CONCURRENT_STREAMS
    changes = [event.changed_settings[limit].new_value for event in peer.of(RemoteSettingsChanged)]
    return int(changes[-1]) if changes else 0


def test_one_stream_is_allowed_until_the_first_valid_provider_token(providers: Providers) -> None:
    with H2Client(providers) as peer:
        peer.until(lambda: streams_allowed(peer) == 1)
        peer.response(peer.push(authorization="bearer wrong"))
        assert streams_allowed(peer) == 1
        peer.response(peer.push())
        peer.until(lambda: streams_allowed(peer) == 1000)


def test_a_rejected_provider_token_can_reduce_the_streams_to_one(providers: Providers, peer: H2Client) -> None:
    providers.settings("apns", streams_after_refusal=1)
    peer.response(peer.push(authorization="bearer wrong"))
    peer.until(lambda: streams_allowed(peer) == 1)
    peer.response(peer.push())
    peer.until(lambda: streams_allowed(peer) == 1000)


def test_the_limit_of_streams_can_change_and_streams_over_it_are_refused(providers: Providers, peer: H2Client) -> None:
    providers.script("apns", fault="silence")
    held = peer.push()
    assert providers.connections("apns", max_concurrent_streams=1) >= 1
    peer.until(lambda: streams_allowed(peer) == 1)
    # h2 itself keeps to the limit, so the test encodes the frames of another request.
    over = peer.h2.get_next_available_stream_id()
    block = peer.h2.encoder.encode([(":method", "POST"), (":path", "/3/device/ab"), (":scheme", "https")])
    peer.socket.sendall(frame(Kind.HEADERS, over, block, END_HEADERS | END_STREAM))
    assert code_of_reset(peer, over) == ErrorCodes.REFUSED_STREAM
    assert providers.counters("apns")["streams"] == 1
    peer.h2.reset_stream(held)
    peer.flush()
    wait_until(lambda: providers.counters("apns")["streams"] == 0, "the stream's end")
    providers.connections("apns", max_concurrent_streams=1000)
    peer.until(lambda: streams_allowed(peer) == 1000)


def code_of_reset(peer: H2Client, stream: int) -> int:
    return int.from_bytes(peer.until_frame(Kind.RST_STREAM, stream)[3], "big")


def test_a_stream_can_be_reset_with_any_code(providers: Providers, peer: H2Client) -> None:
    providers.script("apns", fault="reset", times=1)
    providers.script("apns", fault="reset", code=8, times=1)
    providers.script("apns", fault="refused_stream", times=1)
    codes = [peer.wait_for(StreamReset, peer.push()).error_code for _ in range(3)]
    assert codes == [ErrorCodes.INTERNAL_ERROR, ErrorCodes.CANCEL, ErrorCodes.REFUSED_STREAM]
    assert peer.response(peer.push())[0] == 200
    assert providers.counters("apns")["outcomes"] == {"Success": 2, "reset": 2, "refused_stream": 1}


def test_a_push_with_a_fault_is_accepted_only_if_its_rule_states_so(providers: Providers, peer: H2Client) -> None:
    lost, arrived = apns_token(), apns_token()
    providers.script("apns", token=lost, fault="reset")
    providers.script("apns", token=arrived, fault="reset", accepted=True)
    for device in (lost, arrived):
        peer.wait_for(StreamReset, peer.push(device))
    assert providers.seen(token=lost) == []
    assert len(providers.seen(token=arrived)) == 1


def test_after_goaway_this_stream_and_earlier_ones_get_a_response(providers: Providers, peer: H2Client) -> None:
    slow, last = apns_token("aa"), apns_token("bb")
    providers.script("apns", token="aa", delay_ms=200)
    providers.script("apns", token="bb", fault="goaway")
    first, second = peer.push(slow, flush=False), peer.push(last)
    last_stream, code = struct.unpack(">II", peer.until_frame(Kind.GOAWAY, 0)[3])
    assert (last_stream, code) == (second, ErrorCodes.NO_ERROR)
    assert peer.until_frame(Kind.HEADERS, first)[1] & END_STREAM
    assert peer.until_frame(Kind.HEADERS, second)[1] & END_STREAM
    peer.until_closed()
    assert [seen["token"] for seen in providers.seen()[1:]] == [last, slow]


def test_after_goaway_before_a_stream_it_and_later_ones_get_no_response(providers: Providers, peer: H2Client) -> None:
    doomed = apns_token("dd")
    providers.script("apns", token="dd", fault="goaway_before")
    stream = peer.push(doomed)
    gone = peer.wait_for(ConnectionTerminated)
    assert gone.last_stream_id == stream - 2
    peer.until_closed()
    assert peer.of(ResponseReceived, stream) == []
    assert providers.seen(token=doomed) == []


def test_goaway_on_all_connections_has_a_reason_and_a_last_stream(providers: Providers, peer: H2Client) -> None:
    providers.script("apns", fault="silence")
    stream = peer.push()
    wait_until(lambda: providers.counters("apns")["streams"] == 1, "the silent stream")
    providers.connections("apns", goaway={"reason": "Shutdown", "last_stream": 1, "code": 2})
    gone = peer.wait_for(ConnectionTerminated)
    assert (gone.last_stream_id, gone.error_code) == (1, 2)
    assert json.loads(gone.additional_data) == {"reason": "Shutdown"}
    peer.until_closed()
    assert peer.of(ResponseReceived, stream) == []


def test_an_error_can_come_without_its_body(providers: Providers, peer: H2Client) -> None:
    providers.script("apns", outcome="TooManyRequests", fault="no_body")
    stream = peer.push()
    assert peer.response(stream) == (429, None)
    assert peer.of(DataReceived, stream) == []


def test_a_body_can_come_in_frames_of_one_byte(providers: Providers, peer: H2Client) -> None:
    providers.script("apns", outcome="BadDeviceToken", fault="split_data")
    stream = peer.push()
    assert peer.response(stream) == (400, {"reason": "BadDeviceToken"})
    assert {len(event.data) for event in peer.of(DataReceived, stream)} == {1}


def test_a_body_can_come_between_empty_frames(providers: Providers, peer: H2Client) -> None:
    providers.script("apns", token="ee", outcome="BadDeviceToken", fault="empty_data")
    providers.script("apns", fault="empty_data")
    refused, accepted = peer.push(apns_token("ee")), peer.push(apns_token("ff"))
    assert peer.response(refused) == (400, {"reason": "BadDeviceToken"})
    assert peer.response(accepted) == (200, None)
    sizes = [[len(event.data) for event in peer.of(DataReceived, stream)] for stream in (refused, accepted)]
    assert sizes == [[0, len(b'{"reason":"BadDeviceToken"}'), 0], [0, 0]]


def test_a_response_can_stall_after_its_headers(providers: Providers, peer: H2Client) -> None:
    providers.script("apns", outcome="InternalServerError", fault="stall", times=1)
    stalled, next_one = peer.push(), peer.push()
    peer.response(next_one)
    assert peer.status(stalled) == 500
    assert peer.of(StreamEnded, stalled) == []
    assert providers.counters("apns")["streams"] == 1


def test_silence_lasts_until_the_client_resets_the_stream(providers: Providers, peer: H2Client) -> None:
    providers.script("apns", fault="silence", times=1)
    silent, next_one = peer.push(), peer.push()
    peer.response(next_one)
    assert peer.of(ResponseReceived, silent) == []
    peer.h2.reset_stream(silent, ErrorCodes.CANCEL)
    peer.flush()
    wait_until(lambda: providers.counters("apns")["streams"] == 0, "the stream's end")
    assert providers.counters("apns")["streams_reset_by_client"] >= 1


def test_a_delayed_response_does_not_delay_others(providers: Providers, peer: H2Client) -> None:
    providers.script("apns", token="aa", delay_ms=600_000)
    late, early = peer.push(apns_token("aa")), peer.push(apns_token("bb"))
    assert peer.response(early)[0] == 200
    assert peer.of(ResponseReceived, late) == []


def test_a_delayed_response_arrives(providers: Providers, peer: H2Client) -> None:
    providers.script("apns", delay_ms=20, spread_ms=10, outcome="Shutdown")
    assert peer.response(peer.push()) == (503, {"reason": "Shutdown"})


def test_a_push_that_is_reset_during_its_delay_is_not_accepted(providers: Providers, peer: H2Client) -> None:
    providers.script("apns", token="aa", delay_ms=20)
    cancelled = peer.push(slow := apns_token("aa"), flush=False)
    peer.h2.reset_stream(cancelled)
    # With the same delay: the first would have been accepted before this one.
    peer.response(peer.push(apns_token("aa")))
    assert providers.seen(token=slow) == []


def test_a_connection_can_be_aborted_during_a_request(providers: Providers, peer: H2Client) -> None:
    providers.script("apns", fault="close")
    stream = peer.push()
    peer.until_closed()
    assert peer.of(ResponseReceived, stream) == []


def test_pings_are_answered_and_counted(providers: Providers, peer: H2Client) -> None:
    before = providers.counters("apns")["pings"]
    peer.h2.ping(b"8 bytes.")
    peer.flush()
    assert peer.wait_for(PingAckReceived).ping_data == b"8 bytes."
    assert providers.counters("apns")["pings"] == before + 1


def test_a_body_waits_for_the_streams_window(providers: Providers) -> None:
    """Two bytes at a time: data beyond a client's window waits, and is not lost."""
    providers.script("apns", outcome="BadDeviceToken")
    with H2Client(providers, window=2) as peer:
        stream = peer.push()
        assert peer.response(stream) == (400, {"reason": "BadDeviceToken"})
        assert max(len(event.data) for event in peer.of(DataReceived, stream)) == 2


def test_a_client_that_never_acknowledges_data_gets_65535_bytes_of_it(providers: Providers) -> None:
    with H2Client(providers, acknowledge=False) as peer:
        peer.response(peer.push())
        providers.script("apns", status=400, body="x" * 7000)
        peer.until(lambda: streams_allowed(peer) == 1000)
        streams = [peer.push() for _ in range(10)]
        peer.until(lambda: sum(len(event.data) for event in peer.of(DataReceived)) == 65_535)
        assert peer.of(StreamEnded, streams[-1]) == []
        peer.h2.increment_flow_control_window(100_000)
        peer.flush()
        peer.wait_for(StreamEnded, streams[-1])


@pytest.mark.parametrize(("fault", "ends"), [("early", True), ("early_open", False)])
def test_an_early_response_can_end_the_stream_or_leave_it_open(
    providers: Providers, peer: H2Client, fault: str, ends: bool
) -> None:
    providers.script("apns", token="ea", outcome="TooManyRequests", fault=fault)
    stream = peer.begin(apns_token("ea"))
    assert peer.response(stream) == (429, {"reason": "TooManyRequests"})
    peer.response(peer.push())
    assert [reset.error_code for reset in peer.of(StreamReset, stream)] == [ErrorCodes.NO_ERROR] * ends
    assert len(peer.of(WindowUpdated, stream)) == ends, "a window for the body, which is not needed"
    assert providers.counters("apns")["outcomes"] == {"Success": 2, "TooManyRequests": 1}


def test_a_small_window_grows_by_the_received_bytes(providers: Providers) -> None:
    providers.settings("apns", window=30)
    with H2Client(providers) as peer:
        peer.wait_for(RemoteSettingsChanged)
        stream = peer.begin()
        body = json.dumps(ALERT).encode()
        for start in range(0, len(body), 30):
            peer.until(lambda: peer.h2.local_flow_control_window(stream) == 30)
            peer.h2.send_data(stream, body[start : start + 30], end_stream=start + 30 >= len(body))
            peer.flush()
        assert peer.response(stream)[0] == 200


def test_a_protocol_violation_gets_a_goaway_and_closes_the_connection(providers: Providers, peer: H2Client) -> None:
    peer.socket.sendall(b"\x00\x00\x01\x00\x00\x00\x00\x0f\xffx")
    assert peer.wait_for(ConnectionTerminated).error_code == ErrorCodes.PROTOCOL_ERROR
    peer.until_closed()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", ErrorCodes.FRAME_SIZE_ERROR),
        (b"\x00\x00\x01\x01\x04\x00\x00\x00\x63\xff", ErrorCodes.COMPRESSION_ERROR),
        (b"\x00\x00\x00\x01\x04\x00\x00\x00\x02", ErrorCodes.PROTOCOL_ERROR),
        (b"\x00\x00\x00\x01\x00\x00\x00\x00\x63" + b"\x00\x00\x00\x06\x00\x00\x00\x00\x00", ErrorCodes.PROTOCOL_ERROR),
        (b"\x00\x00\x00\x09\x04\x00\x00\x00\x63", ErrorCodes.PROTOCOL_ERROR),
        (b"\x00\x00\x05\x04\x00\x00\x00\x00\x00abcde", ErrorCodes.FRAME_SIZE_ERROR),
        (b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\xff\xff", ErrorCodes.FLOW_CONTROL_ERROR),
        (b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff", ErrorCodes.FLOW_CONTROL_ERROR),
        (b"\x00\x00\x01\x01\x0c\x00\x00\x00\x63\x05", ErrorCodes.PROTOCOL_ERROR),
    ],
)
def test_malformed_frames_end_the_connection_with_their_code(peer: H2Client, raw: bytes, code: int) -> None:
    peer.socket.sendall(raw)
    assert peer.wait_for(ConnectionTerminated).error_code == code
    peer.until_closed()


def test_a_request_without_a_path_is_reset(peer: H2Client) -> None:
    stream = peer.h2.get_next_available_stream_id()
    block = peer.h2.encoder.encode([(":method", "POST"), (":scheme", "https")])
    peer.socket.sendall(frame(Kind.HEADERS, stream, block, END_HEADERS | END_STREAM))
    assert code_of_reset(peer, stream) == ErrorCodes.PROTOCOL_ERROR


def test_continued_headers_and_padded_data_are_decoded(providers: Providers, peer: H2Client) -> None:
    stream, device = peer.h2.get_next_available_stream_id(), apns_token()
    pseudo = {":method": "POST", ":path": f"/3/device/{device}", ":scheme": "https", ":authority": "apns"}
    fields = pseudo | apns_headers(providers, authorization=peer.authorization)
    block, body = peer.h2.encoder.encode(fields.items()), json.dumps(ALERT).encode()
    peer.socket.sendall(
        frame(Kind.HEADERS, stream, b"\x02" + b"\x00" * 5 + block[:7] + b"\x00\x00", PADDED | PRIORITY_GIVEN)
        + frame(Kind.CONTINUATION, stream, block[7:20])
        + frame(Kind.CONTINUATION, stream, block[20:], END_HEADERS)
        + frame(Kind.DATA, stream, b"\x03" + body[:5] + b"\x00" * 3, PADDED)
        + frame(Kind.DATA, stream, body[5:])
        + frame(Kind.DATA, stream, b"", END_STREAM)
    )
    assert peer.until_frame(Kind.HEADERS, stream)[1] & END_STREAM
    assert [seen["body"] for seen in providers.seen(token=device)] == [ALERT]


def test_settings_of_the_client_are_acknowledged(peer: H2Client) -> None:
    assert peer.wait_for(SettingsAcknowledged)
