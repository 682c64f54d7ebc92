//! Message catalogs, in gettext's binary form.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use crate::Domain;

/// A catalog of one domain, version and language.
#[derive(Debug)]
pub struct Catalog {
    /// Whose messages it has.
    pub domain: Domain,
    /// The server that it comes with.
    pub version: &'static str,
    /// For example `pt_BR`.
    pub language: String,
    /// Its messages.
    pub entries: Vec<Entry>,
}

/// A message: all forms of the original, all forms of the translation.
pub type Entry = (Vec<String>, Vec<String>);

/// Where tests/run.sh keeps what it has fetched.
#[must_use]
pub fn cache() -> PathBuf {
    env::var_os("DBOP_CACHE").map_or_else(|| "/var/cache/dbop-tests".into(), PathBuf::from)
}

/// The folders in which catalogs can be: this machine's, and those of servers that tests/run.sh has
/// fetched.
#[must_use]
pub fn folders() -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from("/usr/share/locale")];
    let fetched = fs::read_dir(cache().join("sid"))
        .into_iter()
        .flatten()
        .flatten();
    folders.extend(fetched.map(|folder| folder.path().join("usr/share/locale")));
    folders
}

/// All catalogs of these versions that are in the folders, sorted.
///
/// # Errors
///
/// A folder or a catalog cannot be read.
pub fn read_all(folders: &[PathBuf], versions: &[&'static str]) -> io::Result<Vec<Catalog>> {
    let mut catalogs: Vec<Catalog> = Vec::new();
    for folder in folders {
        let Ok(languages) = fs::read_dir(folder) else {
            continue;
        };
        for language in languages {
            let language = language?;
            let name = language.file_name().to_string_lossy().into_owned();
            for &version in versions {
                for (domain, file) in [(Domain::Server, "postgres"), (Domain::Libpq, "libpq5")] {
                    let number = version.trim_start_matches("PostgreSQL ");
                    let file = format!("LC_MESSAGES/{file}-{number}.mo");
                    let path = language.path().join(file);
                    let is_new = |catalog: &Catalog| {
                        (catalog.domain, catalog.version, &catalog.language)
                            != (domain, version, &name)
                    };
                    if path.exists() && catalogs.iter().all(is_new) {
                        catalogs.push(Catalog {
                            domain,
                            version,
                            language: name.clone(),
                            entries: read(&path)?,
                        });
                    }
                }
            }
        }
    }
    let order = |catalog: &Catalog| {
        let domain = catalog.domain == Domain::Libpq;
        (domain, catalog.language.clone(), catalog.version)
    };
    catalogs.sort_by_key(order);
    Ok(catalogs)
}

fn read(path: &Path) -> io::Result<Vec<Entry>> {
    parse(&fs::read(path)?).map_err(|reason| {
        let text = format!("{}: {reason}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

/// The entries of a catalog: in its header are the number of messages and where the tables of
/// originals and translations begin, each of lengths and positions. Later minor versions add
/// messages that depend on the system, which nothing here needs.
///
/// # Errors
///
/// It is no catalog, is cut off, or has another encoding than UTF-8.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let number = |at: usize| {
        let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
        bytes
            .map(|bytes| u32::from_le_bytes(*bytes) as usize)
            .ok_or("cut off")
    };
    let text = |table: usize, index: usize| {
        let at = table + 8 * index;
        let (length, start) = (number(at)?, number(at + 4)?);
        let bytes = bytes.get(start..start + length).ok_or("cut off")?;
        std::str::from_utf8(bytes).map_err(|_| "not UTF-8")
    };
    if number(0)? != 0x9504_12de || number(4)? >> 16 != 0 {
        return Err("no catalog of the known version".into());
    }
    let (count, originals, translations) = (number(8)?, number(12)?, number(16)?);
    let mut entries = Vec::new();
    for index in 0..count {
        let (original, translation) = (text(originals, index)?, text(translations, index)?);
        if original.is_empty() {
            // The catalog about itself.
            if !translation.contains("charset=UTF-8") {
                return Err("another encoding than UTF-8".into());
            }
            continue;
        }
        let forms = |text: &str| text.split('\0').map(str::to_owned).collect();
        entries.push((forms(original), forms(translation)));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A catalog of these texts, each behind the last one.
    fn catalog(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let tables = 20;
        let start = tables + 16 * entries.len();
        let mut descriptors = [Vec::new(), Vec::new()];
        for (original, translation) in entries {
            for (table, text) in descriptors.iter_mut().zip([original, translation]) {
                table.push((text.len(), start + strings.len()));
                strings.extend_from_slice(text.as_bytes());
                strings.push(0);
            }
        }
        let header = [
            0x9504_12de,
            0,
            entries.len(),
            tables,
            tables + 8 * entries.len(),
        ];
        let numbers = descriptors
            .concat()
            .into_iter()
            .flat_map(|(length, at)| [length, at]);
        let mut bytes: Vec<u8> = header
            .into_iter()
            .chain(numbers)
            .flat_map(|number| (number as u32).to_le_bytes())
            .collect();
        bytes.append(&mut strings);
        bytes
    }

    const ABOUT: (&str, &str) = ("", "Content-Type: text/plain; charset=UTF-8\n");

    #[test]
    fn a_catalog_is_read() {
        let bytes = catalog(&[
            ABOUT,
            ("%d row\0%d rows", "%d Zeile\0%d Zeilen"),
            ("a", "ä"),
        ]);
        let owned = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let expected = vec![
            (
                owned(&["%d row", "%d rows"]),
                owned(&["%d Zeile", "%d Zeilen"]),
            ),
            (owned(&["a"]), owned(&["ä"])),
        ];
        assert_eq!(parse(&bytes), Ok(expected));
    }

    #[test]
    fn what_is_no_catalog_is_refused() {
        let bytes = catalog(&[ABOUT, ("a", "ä")]);
        // Without the last byte, which ends the last text.
        for length in 0..bytes.len() - 1 {
            assert!(parse(&bytes[..length]).is_err(), "{length}");
        }
        let other = catalog(&[("", "charset=KOI8-R\n")]);
        assert_eq!(parse(&other), Err("another encoding than UTF-8".into()));
        let mut newer = bytes;
        newer[6] = 1;
        assert!(parse(&newer).is_err());
    }
}
