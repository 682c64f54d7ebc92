//! The table, as the source that dbop-core has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::catalog::Catalog;
use crate::format::{Part, Row, Side, Unfit, compile};
use crate::{Domain, Message, Role};

/// A translation of a message that dbop-core knows.
#[derive(Clone, Debug)]
pub struct Translation {
    /// What it means.
    pub message: Message,
    /// It, or its first line, as a format.
    pub format: String,
}

/// The translations that a catalog has of these messages.
#[must_use]
pub fn translations(catalog: &Catalog, messages: &[Message]) -> Vec<Translation> {
    let mut found = Vec::new();
    for (originals, translations) in &catalog.entries {
        let is_it = |message: &&Message| {
            message.domain == catalog.domain
                && originals
                    .iter()
                    .any(|original| first_line(original) == message.english)
        };
        for message in messages.iter().filter(is_it) {
            for translation in translations {
                let whole = translation.trim_end_matches('\n');
                let first = first_line(translation);
                // Some translations have a line break where the message has none. The server sends it;
                // in libpq's list of refusals only the first line is looked at.
                let forms = match message.domain {
                    Domain::Server if whole != first => vec![first, whole],
                    Domain::Server | Domain::Libpq => vec![first],
                };
                found.extend(forms.into_iter().map(|form| Translation {
                    message: *message,
                    format: form.to_owned(),
                }));
            }
        }
    }
    found
}

/// The first line of a text.
#[must_use]
pub fn first_line(text: &str) -> &str {
    text.split_once('\n').map_or(text, |(line, _)| line)
}

/// What the parts of a format are told apart by, and how it is filed.
type Shape = (Side, u32, u64, Vec<(u64, u16)>);

/// The rows of all translations, and what was found on the way.
#[derive(Debug, Default)]
pub struct Table {
    rows: BTreeMap<Shape, (Row, Message)>,
    languages: BTreeSet<String>,
    versions: BTreeSet<&'static str>,
    /// Why translations cannot be in the table.
    pub problems: Vec<String>,
}

impl Table {
    /// The table of the translations in these catalogs.
    #[must_use]
    pub fn new(catalogs: &[Catalog], messages: &[Message]) -> Self {
        let mut this = Self::default();
        this.add_all(catalogs, messages);
        this
    }

    /// Adds the translations in these catalogs.
    pub fn add_all(&mut self, catalogs: &[Catalog], messages: &[Message]) {
        for catalog in catalogs {
            for translation in translations(catalog, messages) {
                self.versions.insert(catalog.version);
                self.languages.insert(catalog.language.clone());
                if let Err(problem) = self.add(&translation) {
                    let (format, language) = (&translation.format, &catalog.language);
                    self.problems
                        .push(format!("{language}: {format}: {problem}"));
                }
            }
        }
    }

    fn add(&mut self, translation: &Translation) -> Result<(), String> {
        let message = translation.message;
        let mut format = translation.format.clone();
        if format == message.english {
            return Ok(()); // not translated
        }
        if message.role == Role::Refusal {
            format.push_str("%s");
        }
        let mut parts = [Part::new(0, 0); 32];
        let (row, side, used) =
            compile(&format, message.index, &mut parts, 0).map_err(|unfit| match unfit {
                Unfit::NoPart => "no part is long enough",
                Unfit::Unsupported => "a placeholder that is not understood",
            })?;
        let parts = parts[..used]
            .iter()
            .map(|part| (part.hash, part.length))
            .collect();
        let shape = (side, row.order(), row.hash, parts);
        let (_, other) = self.rows.entry(shape).or_insert((row, message));
        if (other.code, other.class) != (message.code, message.class) {
            return Err(format!("also means: {}", other.english));
        }
        Ok(())
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The hashes of the rows, as in the source.
    pub fn hashes(&self) -> impl Iterator<Item = String> {
        self.rows
            .values()
            .map(|(row, _)| format!("r(0x{:x}, ", row.hash))
    }

    /// The languages of the catalogs that had something.
    #[must_use]
    pub fn languages(&self) -> Vec<&str> {
        self.languages.iter().map(String::as_str).collect()
    }

    /// The file of dbop-core. `whose` are the messages?
    #[must_use]
    pub fn source(&self, whose: &str) -> String {
        let mut parts: Vec<(u64, u16)> = Vec::new();
        let mut rows = [const { Vec::new() }; 4];
        for ((side, _, _, shape), (row, _)) in &self.rows {
            let known = parts
                .windows(shape.len().max(1))
                .position(|known| known == shape);
            let first = match known {
                _ if shape.is_empty() => 0,
                Some(first) => first,
                None => {
                    parts.extend(shape);
                    parts.len() - shape.len()
                }
            };
            let Row {
                hash,
                gate,
                length,
                parts,
                meaning,
                ..
            } = row;
            let row = format!("r(0x{hash:x}, {gate}, {length}, {first}, {parts}, {meaning})");
            rows[*side as usize].push(row);
        }
        let parts: Vec<_> = parts
            .iter()
            .map(|(hash, length)| format!("p(0x{hash:x}, {length})"))
            .collect();
        let versions: Vec<_> = self.versions.iter().copied().collect();
        let mut source = format!(
            "//! Messages of {whose} in other languages: hashes of the fixed parts of the formats.\n\
             //!\n\
             //! Made by `just languages`; do not edit. From {}.\n\
             //!\n\
{}\
             \n\
             use crate::fault::format::{{Part, Row}};\n\
             \n\
             /// By their sides. Each means the index of its message.\n\
             pub(super) const ROWS: [&[Row]; 4] = [&WHOLE, &FRONT, &BACK, &INSIDE];\n\
             \n\
             const fn r(hash: u64, gate: u16, length: u16, first: u16, parts: u8, meaning: u8) -> Row {{\n    \
                 Row::new(hash, gate, length, first, parts, meaning)\n\
             }}\n\
             \n\
             const fn p(hash: u64, length: u16) -> Part {{\n    \
                 Part::new(hash, length)\n\
             }}\n",
            versions.join(", "),
            commented(&format!("Languages: {}.", self.languages().join(", "))),
        );
        for (name, rows) in ["WHOLE", "FRONT", "BACK", "INSIDE"].into_iter().zip(&rows) {
            array(&mut source, name, "Row", rows);
        }
        array(&mut source, "PARTS", "Part", &parts);
        source
    }
}

/// The text as lines of a comment.
fn commented(text: &str) -> String {
    const WIDTH: usize = 100;

    let mut lines = vec![String::from("//!")];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("at least one");
        match last.len() + 1 + word.len() <= WIDTH {
            true => *last = format!("{last} {word}"),
            false => lines.push(format!("//! {word}")),
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn array(source: &mut String, name: &str, of: &str, items: &[String]) {
    const WIDTH: usize = 100;

    write!(
        source,
        "\n#[rustfmt::skip] // Several to a line.\n{}static {name}: [{of}; {}] = [\n",
        if of == "Part" { "pub(super) " } else { "" },
        items.len(),
    )
    .expect("a string takes everything");
    let mut line = String::new();
    for item in items {
        if 4 + line.len() + 2 + item.len() > WIDTH {
            source.push_str(&format!("    {}\n", line.trim_end()));
            line.clear();
        }
        line.push_str(item);
        line.push_str(", ");
    }
    if !line.is_empty() {
        source.push_str(&format!("    {}\n", line.trim_end()));
    }
    source.push_str("];\n");
}
