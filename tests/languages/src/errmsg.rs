//! The messages of MariaDB and MySQL, in the servers' own binary form (`errmsg.sys`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use dbop_core::{Code, Dialect, ErrorKind, Fault, Reported};

use crate::catalog::{Catalog, cache};
use crate::{Domain, Message, Role, mysql};

/// The servers whose messages are read. The first one is that of Debian 12.
pub const SERVERS: [&str; 3] = ["MariaDB 10.11", "MariaDB 11.8", "MySQL 9.7"];

/// Error numbers and formats.
pub type Formats = BTreeMap<u16, String>;

/// Where the messages of a server are: this machine's, and what tests/run.sh has fetched.
#[must_use]
pub fn folder(server: &str) -> PathBuf {
    match server {
        "MariaDB 10.11" => "/usr/share/mysql".into(),
        "MariaDB 11.8" => cache().join("sid/mariadb-11.8/usr/share/mariadb"),
        _ => cache().join("sid/mysql-9.7/usr/share/mysql"),
    }
}

/// The English messages of a server that dbop-core knows, by their numbers in its files. The server
/// sends some of them with another number: that of 1586 comes as a 1062.
///
/// # Errors
///
/// The folder has no English messages, or they cannot be read.
pub fn messages(server: &'static str) -> io::Result<BTreeMap<u16, Message>> {
    let english = read(server, &folder(server).join("english"))?;
    let known = |(number, format)| Some((number, message(number, format)?));
    Ok(english.into_iter().filter_map(known).collect())
}

fn message(number: u16, format: String) -> Option<Message> {
    // Larger numbers are for the server's log. What begins with a value can be anything.
    if number >= 5000 || format.starts_with('%') {
        return None;
    }
    let text = crate::with_values(&format, "x");
    let fault = Fault::recognize(Dialect::Mysql, Reported::new(ErrorKind::Unknown, &text));
    let Some(Code::Errno(errno)) = fault.code() else {
        return None;
    };
    let index = mysql::TEXTS
        .iter()
        .position(|(_, known, _)| *known == Some(errno))?;
    Some(Message {
        index: u8::try_from(index).expect("a meaning is one byte"),
        domain: Domain::Server,
        // The program is short.
        english: format.leak(),
        code: errno.to_string().leak(),
        class: fault.class(),
        role: Role::Whole,
    })
}

/// The messages of a server in all its languages, as far as dbop-core knows the English ones.
///
/// # Errors
///
/// A folder or a file cannot be read.
pub fn read_all(
    server: &'static str,
    messages: &BTreeMap<u16, Message>,
) -> io::Result<Vec<Catalog>> {
    let mut catalogs = Vec::new();
    for folder in fs::read_dir(folder(server))? {
        let folder = folder?.path();
        let language = folder.file_name().unwrap_or_default().to_string_lossy();
        if language == "english" || !folder.join("errmsg.sys").exists() {
            continue;
        }
        let formats = read(server, &folder)?;
        let entries = messages.iter().filter_map(|(number, message)| {
            let forms = forms(formats.get(number)?, &formats);
            Some((vec![message.english.to_owned()], forms))
        });
        catalogs.push(Catalog {
            domain: Domain::Server,
            version: server,
            entries: entries.collect(),
            language: language.into_owned(),
        });
    }
    catalogs.sort_by(|one, other| one.language.cmp(&other.language));
    Ok(catalogs)
}

/// A format that ends with a value in parentheses and begins with one has no end to be filed by. The
/// one whose last value is only YES or NO has two.
fn forms(format: &str, formats: &Formats) -> Vec<String> {
    const NO: u16 = 1002;
    const YES: u16 = 1003;

    match format.strip_suffix("%s)") {
        Some(start) if format.starts_with('\'') => [NO, YES]
            .iter()
            .filter_map(|word| Some(format!("{start}{})", formats.get(word)?)))
            .collect(),
        _ => vec![format.to_owned()],
    }
}

fn read(server: &str, folder: &Path) -> io::Result<Formats> {
    let path = folder.join("errmsg.sys");
    parse(&fs::read(&path)?).map_err(|reason| {
        let text = format!("{server}, {}: {reason}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

/// The messages in a file. Behind a header of 32 bytes MariaDB has the length of each section, then
/// that of each message, as two bytes; MySQL has the position of each message, as four bytes, and
/// knows the sections by heart. The messages follow, each with a zero at its end.
///
/// # Errors
///
/// It is no such file, is cut off, or has another encoding than UTF-8.
pub fn parse(bytes: &[u8]) -> Result<Formats, String> {
    let number = |at: usize| {
        let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
        bytes
            .map(|bytes| usize::from(u16::from_le_bytes(*bytes)))
            .ok_or("cut off")
    };
    let (count, sections, index_length) = match bytes.get(..4) {
        Some([0xfe, 0xfe, 2, 5]) => {
            let (count, sections) = (number(12)?, number(14)?);
            let lengths: Result<Vec<_>, _> =
                (0..sections).map(|index| number(32 + 2 * index)).collect();
            let starts = (1000..).step_by(1000);
            let sections: Vec<_> = starts.zip(lengths?).collect();
            let index_length = 2 * (sections.len() + count);
            (count, sections, index_length)
        }
        Some([0xfe, 0xfe, 3, 1]) => {
            let count = number(10)?;
            let sections = vec![(1000, 888), (3000, 239), (3500, count.saturating_sub(1127))];
            (count, sections, 4 * count)
        }
        _ => return Err("no file of a known version".into()),
    };
    let texts = bytes.get(32 + index_length..).ok_or("cut off")?;
    let texts: Vec<_> = texts.split_inclusive(|byte| *byte == 0).collect();
    let numbers = sections
        .into_iter()
        .flat_map(|(start, length)| start..start + length);
    if texts.len() != count {
        return Err(format!("{count} messages, but {} texts", texts.len()));
    }
    let mut formats = Formats::new();
    for (errno, text) in numbers.zip(texts) {
        let text = text.strip_suffix(&[0]).ok_or("cut off")?;
        let text = std::str::from_utf8(text).map_err(|_| "not UTF-8")?;
        if let Ok(errno) = u16::try_from(errno) {
            formats.insert(errno, without_suffixes(text));
        }
    }
    Ok(formats)
}

/// MariaDB's own placeholders as those of C: a backtick in one, or a `Q` behind it, puts the value in
/// backticks, and other capital letters behind one say how it is shown, too.
fn without_suffixes(format: &str) -> String {
    let mut text = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        let end = after.find(|letter: char| letter.is_ascii_lowercase() && !"hlz".contains(letter));
        let (placeholder, behind) = after.split_at(end.map_or(after.len(), |end| end + 1));
        rest = behind
            .strip_prefix(['B', 'E', 'Q', 'S', 'T'])
            .unwrap_or(behind);
        let is_quoted = placeholder.starts_with('`') || behind.starts_with('Q');
        let quote = if is_quoted { "`" } else { "" };
        let placeholder = placeholder.trim_start_matches('`');
        text.push_str(&format!("{before}{quote}%{placeholder}{quote}"));
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mariadb(texts: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0xfe, 0xfe, 2, 5];
        bytes.resize(32, 0);
        bytes[12] = texts.len() as u8;
        bytes[14] = 3;
        for length in [texts.len() as u8 - 1, 0, 1] {
            bytes.extend([length, 0]);
        }
        bytes.extend(texts.iter().flat_map(|text| [text.len() as u8, 0]));
        for text in texts {
            bytes.extend(text.bytes().chain([0]));
        }
        bytes
    }

    #[test]
    fn messages_are_numbered_by_section() {
        let bytes = mariadb(&["a", "%-.64sQ ä %iE %`s", "c"]);
        let expected = [(1000, "a"), (1001, "`%-.64s` ä %i `%s`"), (3000, "c")];
        let expected = expected.map(|(errno, text)| (errno, text.to_owned()));
        assert_eq!(parse(&bytes), Ok(expected.into()));
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        let bytes = mariadb(&["a", "b", "c"]);
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "{length}");
        }
        let mut newer = bytes;
        newer[3] = 6;
        assert!(parse(&newer).is_err());
    }

    #[test]
    fn a_password_that_was_given_or_not_makes_two_formats() {
        let formats = [(1002, "NO"), (1003, "JA")].map(|(errno, text)| (errno, text.to_owned()));
        let forms = |format| forms(format, &formats.clone().into());
        assert_eq!(forms("'%s' x (%s)"), ["'%s' x (NO)", "'%s' x (JA)"]);
        assert_eq!(forms("x '%s' (%s)"), ["x '%s' (%s)"]);
    }
}
