//! Templates that are lines for a shell: `--command` with `--shell`.
//!
//! Parameters never become part of the line. They are the shell's own positional parameters, and
//! `{}` in the template is the one place where they are named: `"$@"`, which the shell expands
//! without reading it again. Inside quotes that would not hold, so `{}` is refused there.

use super::{CommandError, PLACE};

/// What takes the place of `{}`: every parameter, as a word of its own.
const PARAMETERS: &str = r#""$@""#;

/// The words that run `line` in a shell, to be followed by the parameters.
pub(super) fn template(line: &str) -> Result<Vec<String>, CommandError> {
    if line.trim().is_empty() {
        return Err(CommandError::Empty(line.to_owned()));
    }
    let line = match line.contains(PLACE) {
        true if has_quoted_place(line) => {
            return Err(CommandError::QuotedPlace(line.to_owned()));
        }
        true => line.replace(PLACE, PARAMETERS),
        false => format!("{line} {PARAMETERS}"),
    };
    let words = ["/bin/sh", "-c", &line, "sh"];
    Ok(words.map(str::to_owned).to_vec())
}

/// Whether a `{}` stands between quotes, or behind a backslash.
fn has_quoted_place(line: &str) -> bool {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, c) in line.char_indices() {
        if (is_escaped || quote.is_some()) && line[at..].starts_with(PLACE) {
            return true;
        }
        match (c, quote) {
            _ if is_escaped => is_escaped = false,
            ('\\', None | Some('"')) => is_escaped = true,
            ('\'' | '"', None) => quote = Some(c),
            (_, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_shells_parameters_and_is_refused_in_quotes() {
        let line = |text| template(text).unwrap()[2].clone();
        assert_eq!(line("wc -w {} | sort"), r#"wc -w "$@" | sort"#);
        assert_eq!(line("x={}; echo 'a' $x"), r#"x="$@"; echo 'a' $x"#);
        assert_eq!(line("ls"), r#"ls "$@""#);
        for quoted in ["echo '{}'", r#"echo "x {}""#, r"echo \{}", r#"echo "\"{}""#] {
            assert!(
                matches!(template(quoted), Err(CommandError::QuotedPlace(_))),
                "{quoted}"
            );
        }
        assert!(template("echo 'it' {} \"x\"").is_ok());
        assert!(template(" ").is_err());
    }
}
