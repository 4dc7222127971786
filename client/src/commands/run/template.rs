//! The command of `muster run`, and how an item becomes part of it.
//!
//! One word is a line for the shell, as GNU parallel takes it: items are quoted. Several words are a
//! program and its arguments, as xargs takes them: no shell is there.

use std::path::Path;

/// What an item, or a part of it, stands for. The longer ones first: `{}` is in none of the others.
const PLACES: [(&str, Part); 6] = [
    ("{//}", Part::Folder),
    ("{/.}", Part::Stem),
    ("{/}", Part::Name),
    ("{.}", Part::WithoutSuffix),
    ("{#}", Part::Seq),
    ("{}", Part::Whole),
];

#[derive(Clone, Copy)]
enum Part {
    Whole,
    WithoutSuffix,
    Name,
    Folder,
    Stem,
    Seq,
}

/// A command with places for an item.
#[derive(Debug, PartialEq, Eq)]
pub enum Template {
    /// For `sh -c`.
    Line(String),
    /// A program and its arguments.
    Words(Vec<String>),
}

impl Template {
    /// One word is a line, several are words. Without a place for the item it comes last.
    pub fn new(mut words: Vec<String>) -> Self {
        let has_place = |word: &String| PLACES.iter().any(|(place, _)| word.contains(place));
        if words.iter().any(has_place) {
            // As it is.
        } else if let [line] = words.as_mut_slice() {
            line.push_str(" {}");
        } else {
            words.push("{}".into());
        }
        match <[String; 1]>::try_from(words) {
            Ok([line]) => Template::Line(line),
            Err(words) => Template::Words(words),
        }
    }

    /// The program and its arguments for one item, the `seq`-th.
    pub fn fill(&self, item: &str, seq: u64) -> Vec<String> {
        match self {
            Template::Line(line) => {
                let line = fill(line, |part| quoted(&text(part, item, seq)));
                vec!["/bin/sh".into(), "-c".into(), line]
            }
            Template::Words(words) => words
                .iter()
                .map(|word| fill(word, |part| text(part, item, seq)))
                .collect(),
        }
    }

    /// The command as a person would type it.
    pub fn show(&self, item: &str, seq: u64) -> String {
        let mut words = self.fill(item, seq);
        match self {
            Template::Line(_) => words.pop().unwrap_or_default(),
            Template::Words(_) => {
                let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
                words.join(" ")
            }
        }
    }

    /// What tells one template from another.
    pub fn source(&self) -> String {
        match self {
            Template::Line(line) => line.clone(),
            Template::Words(words) => words.join("\0"),
        }
    }
}

/// Replaces every place in one pass, so that an item that looks like a place stays what it is.
fn fill(template: &str, value: impl Fn(Part) -> String) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        match PLACES.iter().find(|(place, _)| rest.starts_with(place)) {
            Some((place, part)) => {
                filled.push_str(&value(*part));
                rest = &rest[place.len()..];
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled.push_str(rest);
    filled
}

fn text(part: Part, item: &str, seq: u64) -> String {
    let path = Path::new(item);
    let name = path
        .file_name()
        .map_or(item.into(), |name| name.to_string_lossy());
    match part {
        Part::Whole => item.to_owned(),
        Part::WithoutSuffix => path.with_extension("").to_string_lossy().into_owned(),
        Part::Name => name.into_owned(),
        Part::Folder => match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_string_lossy().into_owned(),
            _ => ".".into(),
        },
        Part::Stem => Path::new(&*name)
            .with_extension("")
            .to_string_lossy()
            .into_owned(),
        Part::Seq => seq.to_string(),
    }
}

/// One word for the shell, whatever is in it.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Template {
        Template::new(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn one_word_is_a_line_for_the_shell_and_items_are_quoted() {
        let line = |template: &str, item: &str| words(&[template]).fill(item, 7)[2].clone();
        assert_eq!(line("gzip {}", "a b"), "gzip 'a b'");
        assert_eq!(line("gzip", "it's"), r"gzip 'it'\''s'");
        assert_eq!(
            line("echo {} > {.}.out", "d/a.txt"),
            "echo d/a.txt > d/a.out"
        );
        assert_eq!(
            line("x {/} {//} {/.} {#}", "d/a.tar.gz"),
            "x a.tar.gz d a.tar 7"
        );
        assert_eq!(line("x {//} {.}", "a"), "x . a");
        assert_eq!(
            line("echo ${HOME} {}", "$(rm -r /)"),
            "echo ${HOME} '$(rm -r /)'"
        );
        assert_eq!(line("echo {}", ""), "echo ''");
    }

    #[test]
    fn several_words_are_a_program_and_its_arguments() {
        let template = words(&["cp", "{}", "{}.bak"]);
        assert_eq!(template.fill("a b", 1), ["cp", "a b", "a b.bak"]);
        assert_eq!(template.show("a b", 1), "cp 'a b' 'a b.bak'");
        assert_eq!(words(&["wc", "-l"]).fill("{}{.}", 1), ["wc", "-l", "{}{.}"]);
    }
}
