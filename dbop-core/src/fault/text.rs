//! Texts that were made from a format.

/// Whether `text` was made from `format`, in which every `*` stands for any text.
pub(super) fn made_from(format: &str, text: &str) -> bool {
    let Some((head, tail)) = format.split_once('*') else {
        return text == format;
    };
    let (middle, end) = tail.rsplit_once('*').unwrap_or(("", tail));
    let Some(mut rest) = text.strip_prefix(head).and_then(|t| t.strip_suffix(end)) else {
        return false;
    };
    middle.split('*').all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_fits_what_was_made_from_it() {
        for (format, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("*b", "ab", true),
            ("a*b", "ab", true),
            ("ab*bc", "abc", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a--c", false),
            ("a*b*c*d", "a c b d", false),
            ("a*b*c*d", "a b c d", true),
            ("»*«", "»ü«", true),
        ] {
            assert_eq!(made_from(format, text), expected, "{format} {text}");
        }
    }
}
