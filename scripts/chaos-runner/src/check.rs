//! The judge. It knows nothing of broker, workers and clients but what the clients wrote down.

use anyhow::{Context as _, bail};
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Attempts of a call that asks for nothing else; `WorkerLost` after fewer is no honest end.
const ATTEMPTS: u64 = 3;

/// What the logs of all clients come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Calls that were sent, those of killed clients included.
    pub calls: u64,
    /// Calls that ended with the right result, once.
    pub answered: u64,
    /// Calls that may run again and ended without a result and without having used up their
    /// attempts, or of which nothing was heard although their client lived on.
    pub lost: u64,
    /// Ends of calls that had ended before.
    pub duplicated: u64,
    /// Results that are not the right one, and ends of calls that nobody made.
    pub wrong: u64,
    /// Calls whose client waited in vain until its patience ended.
    pub stuck: u64,
    /// Calls that must not run twice whose worker or broker died: their outcome is not known.
    pub unknown: u64,
    /// Calls that ended with `WorkerLost` after all their attempts, each on a worker that died.
    pub attempts_used_up: u64,
    /// Calls that nobody waits for any more: their client was killed.
    pub abandoned: u64,
    /// Errors by what they were.
    pub errors: BTreeMap<String, u64>,
}

impl Verdict {
    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.wrong + self.stuck == 0
    }

    fn add(&mut self, other: Verdict) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.wrong += other.wrong;
        self.stuck += other.stuck;
        self.unknown += other.unknown;
        self.attempts_used_up += other.attempts_used_up;
        self.abandoned += other.abandoned;
        for (what, count) in other.errors {
            *self.errors.entry(what).or_default() += count;
        }
    }
}

/// Judges all logs of clients in a folder.
///
/// # Errors
/// When there is none, or one can't be read.
pub fn folder(folder: &Path) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut logs = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("client-") {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            verdict.add(log(&text).with_context(|| path.display().to_string())?);
            logs += 1;
        }
    }
    if logs == 0 {
        bail!("{}: no client's log is there", folder.display());
    }
    Ok(verdict)
}

/// Judges one client's log.
///
/// # Errors
/// When a line is none of a log.
pub fn log(text: &str) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut open: HashMap<u64, bool> = HashMap::new();
    let mut ended: HashMap<u64, ()> = HashMap::new();
    let mut last = "";
    for line in text.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else {
            // Cut short by the kill; what it says has not happened for anyone else.
            break;
        };
        last = line;
        let words: Vec<&str> = line.split(' ').collect();
        let (what, n, more) = match words.as_slice() {
            ["killed" | "end"] => continue,
            [what, n, more, _ns] => (*what, n, *more),
            ["stuck", n, _ns] => ("stuck", n, ""),
            _ => bail!("what is `{line}`?"),
        };
        let n: u64 = n.parse().with_context(|| format!("`{line}`"))?;
        if what == "sent" {
            verdict.calls += 1;
            open.insert(n, more == "once");
            continue;
        }
        let Some(is_once) = open.remove(&n) else {
            match ended.contains_key(&n) {
                true => verdict.duplicated += 1,
                false => verdict.wrong += 1,
            }
            continue;
        };
        ended.insert(n, ());
        match what {
            "answer" if more == expected(n).to_string() => verdict.answered += 1,
            "answer" => verdict.wrong += 1,
            "stuck" => verdict.stuck += 1,
            "error" => {
                *verdict.errors.entry(more.to_owned()).or_default() += 1;
                verdict.count_error(is_once, more);
            }
            _ => bail!("what is `{line}`?"),
        }
    }
    match last {
        "killed" => verdict.abandoned += open.len() as u64,
        _ => verdict.lost += open.len() as u64,
    }
    Ok(verdict)
}

impl Verdict {
    fn count_error(&mut self, is_once: bool, what: &str) {
        let (code, attempts) = what.split_once('/').unwrap_or((what, ""));
        match (is_once, code) {
            (true, "-32002" | "unknown") => self.unknown += 1,
            (false, "-32002") if attempts.parse() == Ok(ATTEMPTS) => self.attempts_used_up += 1,
            _ => self.lost += 1,
        }
    }
}

/// What call `n` has to answer, worked out in another way than the workers do.
fn expected(n: u64) -> u64 {
    const MODULUS: u128 = 1 << 64;
    let first = u128::from(n) * 11_400_714_819_323_198_485 % MODULUS;
    let second = first ^ (first / (1 << 29));
    (second * 13_787_848_793_156_543_929 % MODULUS / (1 << 11)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &[&str]) -> Verdict {
        log(&lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>())
        .unwrap()
    }

    fn right(n: u64) -> String {
        format!("answer {n} {} 2", expected(n))
    }

    #[test]
    fn the_judge_and_the_workers_mean_the_same_function() {
        for n in [0, 1, 7, 1_000_000_007, u64::MAX >> 11] {
            assert_eq!(expected(n), crate::work::mix(n));
        }
    }

    #[test]
    fn a_log_in_which_all_is_well_is_clean() {
        let verdict = judged(&[
            "sent 1 lane 1",
            "sent 2 once 1",
            &right(2),
            &right(1),
            "end",
        ]);
        assert!(verdict.is_clean());
        assert_eq!((verdict.calls, verdict.answered), (2, 2));
    }

    #[test]
    fn a_call_of_which_nothing_was_heard_is_lost_unless_its_client_was_killed() {
        let lines = ["sent 1 managed 1", "sent 2 managed 1", &right(1)];
        assert_eq!(judged(&[&lines[..], &["end"]].concat()).lost, 1);
        // A client that ended by itself and did not say so is no excuse.
        assert_eq!(judged(&lines).lost, 1);
        let killed = judged(&[&lines[..], &["killed"]].concat());
        assert_eq!((killed.lost, killed.abandoned), (0, 1));
    }

    #[test]
    fn a_second_answer_is_seen_and_so_is_one_to_nobody() {
        let verdict = judged(&["sent 1 managed 1", &right(1), &right(1), &right(3), "end"]);
        assert_eq!((verdict.duplicated, verdict.wrong), (1, 1));
        let verdict = judged(&["sent 1 managed 1", "error 1 -32002/3 2", &right(1), "end"]);
        assert_eq!(verdict.duplicated, 1);
    }

    #[test]
    fn a_wrong_value_is_wrong_and_a_long_wait_is_stuck() {
        let verdict = judged(&[
            "sent 1 lane 1",
            "answer 1 5 2",
            "sent 2 lane 1",
            "stuck 2 9",
            "end",
        ]);
        assert_eq!((verdict.wrong, verdict.stuck, verdict.answered), (1, 1, 0));
    }

    #[test]
    fn an_error_is_a_loss_unless_it_had_to_be() {
        let lines = |kind: &str, what: &str| {
            judged(&[
                &format!("sent 1 {kind} 1"),
                &format!("error 1 {what} 2"),
                "end",
            ])
        };
        assert_eq!(lines("managed", "-32002/3").attempts_used_up, 1);
        assert_eq!(lines("managed", "-32002/1").lost, 1);
        assert_eq!(lines("managed", "unknown").lost, 1);
        assert_eq!(lines("lane", "-32601").lost, 1);
        assert_eq!(lines("once", "-32002/1").unknown, 1);
        assert_eq!(lines("once", "unknown").unknown, 1);
        assert_eq!(lines("once", "-32601").lost, 1);
    }

    #[test]
    fn a_line_that_is_none_is_refused_and_a_torn_last_one_is_not() {
        assert!(log("sent x\n").is_err());
        assert_eq!(log("sent 1 lane 1\nansw").unwrap().lost, 1);
    }
}
