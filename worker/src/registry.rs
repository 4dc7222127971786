//! The functions a worker offers, each with where it runs.

use crate::command::{CommandFunction, RunFunction};
use crate::native::Native;
use muster_proto::limits;
use muster_proto::worker::Method;
use rustc_hash::FxHashMap;

/// Prefixes of the methods that the broker answers itself.
const RESERVED: [&str; 3] = ["system.", "broker.", "rpc."];

/// Where a function runs.
#[derive(Debug)]
pub(crate) enum Runs {
    /// In the slot itself.
    Native(Native),
    /// In a process of its own for each call.
    Command(CommandFunction),
    /// In a process of its own, which the caller names.
    Run(RunFunction),
    /// In the slot's Python child.
    Python,
    /// In the slot's stock REP server.
    Rep,
}

/// A function on offer.
#[derive(Debug)]
pub(crate) struct Function {
    pub method: Method,
    pub runs: Runs,
}

/// Every function a worker offers, by name.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    functions: Vec<Function>,
    /// The names are the worker's own, so nobody can choose them to collide.
    by_name: FxHashMap<Vec<u8>, usize>,
}

/// Why functions cannot be offered together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Two claim one name.
    #[error("method {name} is claimed by two functions: {first} and {second}")]
    Claimed {
        /// The name.
        name: String,
        /// Where the first one comes from.
        first: &'static str,
        /// Where the second one comes from.
        second: &'static str,
    },
    /// The name cannot be called.
    #[error("method name {name:?}: {reason}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There are too many.
    #[error("{count} methods, a worker offers at most {max}", max = limits::WORKER_METHODS_MAX)]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

impl Runs {
    fn origin(&self) -> &'static str {
        match self {
            Runs::Native(_) => "a Rust function",
            Runs::Command(_) => "a command",
            Runs::Run(_) => "--allow-run",
            Runs::Python => "a Python function",
            Runs::Rep => "a REP server",
        }
    }
}

impl Registry {
    /// Adds a function.
    ///
    /// # Errors
    /// [`RegistryError`] when its name is taken or cannot be called.
    pub fn add(&mut self, mut method: Method, runs: Runs) -> Result<(), RegistryError> {
        check_name(&method.name)?;
        if self.functions.len() == limits::WORKER_METHODS_MAX {
            return Err(RegistryError::TooMany {
                count: self.functions.len() + 1,
            });
        }
        if let Some(&at) = self.by_name.get(method.name.as_bytes()) {
            return Err(RegistryError::Claimed {
                name: method.name,
                first: self.functions[at].runs.origin(),
                second: runs.origin(),
            });
        }
        cut(&mut method.doc, limits::DOC_BYTES_MAX);
        self.by_name
            .insert(method.name.clone().into_bytes(), self.functions.len());
        self.functions.push(Function { method, runs });
        Ok(())
    }

    /// Forbids a second run of every method whose name fits one of the patterns. Returns the
    /// patterns that fit none.
    pub fn set_once<'p>(&mut self, patterns: &'p [String]) -> Vec<&'p str> {
        let mut idle = Vec::new();
        for pattern in patterns {
            let mut fits = false;
            for function in &mut self.functions {
                if glob_fits(pattern, &function.method.name) {
                    function.method.once = true;
                    fits = true;
                }
            }
            if !fits {
                idle.push(pattern.as_str());
            }
        }
        idle
    }

    /// Whether every call is a process of its own.
    pub fn only_starts_commands(&self) -> bool {
        let mut kinds = self.functions.iter().map(|function| &function.runs);
        kinds.all(|runs| matches!(runs, Runs::Command(_) | Runs::Run(_)))
    }

    /// The function of that name, with its number.
    pub fn find(&self, name: impl AsRef<[u8]>) -> Option<(usize, &Function)> {
        let at = *self.by_name.get(name.as_ref())?;
        Some((at, &self.functions[at]))
    }

    /// The function with that number.
    pub fn function(&self, number: usize) -> &Function {
        &self.functions[number]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// What to register.
    pub fn methods(&self) -> Vec<Method> {
        self.functions
            .iter()
            .map(|function| function.method.clone())
            .collect()
    }
}

fn check_name(name: &str) -> Result<(), RegistryError> {
    let bad = |reason: String| {
        Err(RegistryError::BadName {
            name: name.to_owned(),
            reason,
        })
    };
    if name.is_empty() {
        return bad("it is empty".into());
    }
    if name.len() > limits::METHOD_BYTES_MAX {
        return bad(format!(
            "{} bytes, limit {}",
            name.len(),
            limits::METHOD_BYTES_MAX
        ));
    }
    if let Some(prefix) = RESERVED.into_iter().find(|prefix| name.starts_with(prefix)) {
        return bad(format!("{prefix}* is the broker's own"));
    }
    Ok(())
}

/// Cuts a text at a character before the limit.
fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max)
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        text.truncate(end);
    }
}

/// Whether `name` fits a pattern of `*` (any characters), `?` (one) and characters themselves.
fn glob_fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut pattern_at) = (0, 0);
    // Where to go on when a star has to take one character more.
    let mut retry: Option<(usize, usize)> = None;
    while at < name.len() {
        match pattern.get(pattern_at) {
            Some('*') => {
                retry = Some((pattern_at + 1, at + 1));
                pattern_at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == name[at] => {
                (at, pattern_at) = (at + 1, pattern_at + 1);
            }
            _ => match retry {
                Some((star, next)) => {
                    (pattern_at, at) = (star, next);
                    retry = Some((star, next + 1));
                }
                None => return false,
            },
        }
    }
    pattern[pattern_at..].iter().all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(name: &str) -> Method {
        Method {
            name: name.into(),
            params: None,
            doc: String::new(),
            once: false,
            chunks: true,
            shared: false,
        }
    }

    #[test]
    fn a_name_is_claimed_once() {
        let mut registry = Registry::default();
        registry.add(method("add"), Runs::Python).unwrap();
        let native = Native::new("add".into(), |x: i64, y: i64| x + y);
        let error = registry
            .add(native.method.clone(), Runs::Native(native))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "method add is claimed by two functions: a Python function and a Rust function"
        );
        assert_eq!(registry.find("add").unwrap().0, 0);
        assert!(registry.find("sub").is_none());
    }

    #[test]
    fn names_nobody_can_call_are_refused() {
        let mut registry = Registry::default();
        for name in ["", "system.listMethods", "broker.x", &"x".repeat(257)] {
            let error = registry.add(method(name), Runs::Python).unwrap_err();
            assert!(matches!(error, RegistryError::BadName { .. }), "{name}");
        }
        registry.add(method("systematic"), Runs::Python).unwrap();
    }

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, fits) in [
            ("*", "anything", true),
            ("send_*", "send_mail", true),
            ("send_*", "resend_mail", false),
            ("*_mail", "send_mail_mail", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "a_b_b_c", true),
            ("a*b*c", "a_c_b", false),
            ("", "", true),
        ] {
            assert_eq!(glob_fits(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn once_is_set_by_pattern_and_idle_patterns_are_told() {
        let mut registry = Registry::default();
        registry.add(method("send_mail"), Runs::Python).unwrap();
        registry.add(method("read_mail"), Runs::Python).unwrap();
        let patterns = ["send_*".to_owned(), "nothing".to_owned()];
        assert_eq!(registry.set_once(&patterns), ["nothing"]);
        let once: Vec<bool> = registry
            .methods()
            .iter()
            .map(|method| method.once)
            .collect();
        assert_eq!(once, [true, false]);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let mut text = "aü".to_owned();
        cut(&mut text, 2);
        assert_eq!(text, "a");
    }
}
