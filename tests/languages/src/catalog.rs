//! Message catalogs, in gettext's binary form.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use crate::Domain;

/// A catalog of one domain, version and language.
#[derive(Debug)]
pub struct Catalog {
    /// Whose messages it has.
    pub domain: Domain,
    /// The major version of the package that it comes with.
    pub version: &'static str,
    /// For example `pt_BR`.
    pub language: String,
    /// The messages: all forms of the original, all forms of the translation.
    pub entries: Vec<(Vec<String>, Vec<String>)>,
}

/// The folders in which catalogs can be: this machine's, and those of servers that tests/run.sh has
/// fetched.
#[must_use]
pub fn folders() -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from("/usr/share/locale")];
    let cache =
        env::var_os("DBOP_CACHE").map_or_else(|| "/var/cache/dbop-tests".into(), PathBuf::from);
    let fetched = fs::read_dir(cache.join("sid"))
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
                    let file = format!("LC_MESSAGES/{file}-{version}.mo");
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

fn read(path: &Path) -> io::Result<Vec<(Vec<String>, Vec<String>)>> {
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
pub fn parse(bytes: &[u8]) -> Result<Vec<(Vec<String>, Vec<String>)>, String> {
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
