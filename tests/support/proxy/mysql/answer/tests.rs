use super::super::take;
use super::{Answer, COM_STMT_EXECUTE, COM_STMT_FETCH, Capabilities, EOF, ERROR, FILE, OK};

const OLD: Capabilities = Capabilities {
    no_eof: false,
    caches_metadata: false,
};
const NEW: Capabilities = Capabilities {
    no_eof: true,
    caches_metadata: false,
};
const CACHING: Capabilities = Capabilities {
    no_eof: true,
    caches_metadata: true,
};

const MORE: u8 = 1 << 3;
const CURSOR: u8 = 1 << 6;

const COLUMN: &[u8] = b"\x03def...";
const ROW: &[u8] = b"\x011";
const DONE: &[u8] = &[OK, 0, 0, 2, 0, 0, 0];

/// What the server says when rows, or columns, are at their end.
fn end(can: Capabilities, status: u8) -> Vec<u8> {
    if can.no_eof {
        vec![EOF, 0, 0, status, 0, 0, 0]
    } else {
        vec![EOF, 0, 0, status, 0]
    }
}

fn error(number: u16) -> Vec<u8> {
    [&[ERROR], &number.to_le_bytes()[..], b"#40001lost"].concat()
}

/// It is complete with the last one of these packets, and not before.
fn is_complete_at_the_end(code: u8, can: Capabilities, packets: &[&[u8]]) {
    let mut answer = Answer::to_command(code).1.expect("it has an answer");
    let (last, rest) = packets.split_last().expect("not empty");
    for (i, packet) in rest.iter().enumerate() {
        assert!(
            !answer.is_complete_with(packet, can),
            "{code}: {i}: {packet:?}"
        );
    }
    assert!(answer.is_complete_with(last, can), "{code}: {answer:?}");
}

#[test]
fn rows_come_with_or_without_a_packet_after_their_columns() {
    for can in [OLD, NEW] {
        let mut packets: Vec<Vec<u8>> = vec![vec![2], COLUMN.into(), COLUMN.into()];
        if !can.no_eof {
            packets.push(end(can, 2));
        }
        // A row whose first value is a giant begins as the end does.
        let mut giant = vec![EOF];
        giant.resize(0xff_ff_ff, b'x');
        packets.extend([ROW.into(), giant, ROW.into(), end(can, 2)]);
        let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        is_complete_at_the_end(COM_STMT_EXECUTE, can, &packets);
    }
}

#[test]
fn each_result_says_whether_another_one_follows() {
    let changed: &[u8] = &[OK, 0xfc, 0, 1, 0xfd, 0, 0, 1, MORE, 0, 0, 0];
    let rows = end(NEW, MORE);
    let packets = [changed, &[1], COLUMN, ROW, &rows[..], changed, DONE];
    is_complete_at_the_end(COM_STMT_EXECUTE, NEW, &packets);
    let failed = [changed, &[1], COLUMN, &rows[..], &error(1213)];
    is_complete_at_the_end(COM_STMT_EXECUTE, NEW, &failed);
    let failed = [&[1], COLUMN, ROW, &error(1317)[..]];
    is_complete_at_the_end(COM_STMT_EXECUTE, NEW, &failed);
}

#[test]
fn with_a_cursor_there_are_no_rows_before_they_are_fetched() {
    for can in [OLD, NEW] {
        let end_of_columns = end(can, CURSOR);
        is_complete_at_the_end(COM_STMT_EXECUTE, can, &[&[1], COLUMN, &end_of_columns]);
        is_complete_at_the_end(COM_STMT_FETCH, can, &[ROW, ROW, &end(can, CURSOR)]);
    }
}

#[test]
fn columns_that_the_client_knows_are_left_out() {
    let end = end(CACHING, 2);
    is_complete_at_the_end(COM_STMT_EXECUTE, CACHING, &[&[1, 0], ROW, &end]);
    is_complete_at_the_end(COM_STMT_EXECUTE, CACHING, &[&[1, 1], COLUMN, ROW, &end]);
}

#[test]
fn progress_is_no_error_and_a_file_is_no_end() {
    let asks_for_file = [FILE, b'x'];
    is_complete_at_the_end(
        COM_STMT_EXECUTE,
        NEW,
        &[&error(0xffff), &asks_for_file, DONE],
    );
}

#[test]
fn a_prepared_statement_comes_with_its_parameters_and_columns() {
    let prepared =
        |columns: u8, parameters: u8| vec![OK, 7, 0, 0, 0, columns, 0, parameters, 0, 0, 0, 0];
    let mut answer = Answer::Prepared;
    assert_eq!(answer.prepared(&prepared(1, 1)), Some(7));
    assert!(answer.is_complete_with(&prepared(0, 0), OLD));
    assert_eq!(Answer::Prepared.prepared(&error(1064)), None);
    assert!(Answer::Prepared.is_complete_with(&error(1064), OLD));
    for (can, columns, parameters, packets) in [
        (OLD, 2, 1, 5),
        (OLD, 0, 2, 3),
        (NEW, 2, 1, 3),
        (NEW, 0, 2, 2),
    ] {
        let mut answer = Answer::Prepared;
        assert!(!answer.is_complete_with(&prepared(columns, parameters), can));
        for i in 1..=packets {
            assert_eq!(answer.is_complete_with(COLUMN, can), i == packets, "{i}");
        }
    }
}

#[test]
fn a_packet_can_be_continued() {
    const FULL: usize = 0xff_ff_ff;
    let mut buffer = [&[0xff, 0xff, 0xff, 0], &vec![1; FULL][..], &[2, 0, 0, 1, 2]].concat();
    assert!(take(&mut buffer).is_none());
    buffer.extend([3, 9]);
    let packet = take(&mut buffer).expect("whole");
    assert_eq!((packet.payload.len(), packet.sequence), (FULL + 2, 0));
    assert_eq!(packet.payload[FULL..], [2, 3]);
    assert_eq!((packet.bytes.len(), buffer), (FULL + 10, vec![9]));
}
