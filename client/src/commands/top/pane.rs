//! The lists, their columns, and which of them fit.

/// The lists, in the order of the tab key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    Methods,
    Slots,
    Failures,
}

/// One column of a list.
pub struct Column {
    pub name: &'static str,
    pub width: Width,
    /// When there is no room, the column with the highest goes first; 0 and 1 stay.
    pub rank: u8,
}

/// How wide a column is, in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Of figures, on the right of so many cells.
    Figure(u16),
    /// Of short words.
    Word(u16),
    /// Of a name: as long as the longest, and never less than this.
    Name(u16),
    /// What the others leave, and never less than this.
    Rest(u16),
}

/// Names longer than this are cut.
const NAME_MAX: u16 = 36;

const fn column(name: &'static str, width: Width, rank: u8) -> Column {
    Column { name, width, rank }
}

use Width::{Figure, Name, Rest, Word};

const METHODS: [Column; 9] = [
    column("METHOD", Name(12), 0),
    column("CALLS/s", Figure(8), 1),
    column("P50", Figure(8), 2),
    column("P95", Figure(8), 5),
    column("P99", Figure(8), 3),
    column("QUEUED", Figure(7), 1),
    column("SLOTS", Figure(6), 7),
    column("CALLS", Figure(9), 6),
    column("FAILURES", Figure(9), 4),
];

const SLOTS: [Column; 9] = [
    column("SLOT", Name(9), 0),
    column("STATE", Word(8), 1),
    column("LOAD", Word(10), 3),
    column("CALLS/s", Figure(8), 5),
    column("CALLS", Figure(9), 7),
    column("FAILURES", Figure(9), 6),
    column("FOR", Figure(8), 2),
    column("METHOD", Name(12), 1),
    column("CALL", Word(8), 4),
];

const FAILURES: [Column; 6] = [
    column("WHEN", Word(10), 0),
    column("METHOD", Name(10), 1),
    column("CODE", Word(16), 2),
    column("SLOT", Name(9), 4),
    column("CALL", Word(8), 3),
    column("ERROR", Rest(18), 0),
];

impl Pane {
    pub const ALL: [Pane; 3] = [Pane::Methods, Pane::Slots, Pane::Failures];

    pub fn title(self) -> &'static str {
        match self {
            Pane::Methods => "Methods",
            Pane::Slots => "Slots",
            Pane::Failures => "Recent failures",
        }
    }

    pub fn columns(self) -> &'static [Column] {
        match self {
            Pane::Methods => &METHODS,
            Pane::Slots => &SLOTS,
            Pane::Failures => &FAILURES,
        }
    }

    /// The columns that fit into `room` cells with `gap` between them, and how wide each is.
    /// `longest` gives the longest text of a column.
    pub fn fit(self, room: u16, gap: u16, longest: impl Fn(usize) -> usize) -> Vec<(usize, u16)> {
        let columns = self.columns();
        let wanted = |at: usize| match columns[at].width {
            Figure(cells) | Word(cells) | Rest(cells) => cells,
            Name(cells) => {
                let longest = u16::try_from(longest(at)).unwrap_or(u16::MAX);
                longest.clamp(cells, NAME_MAX.max(cells))
            }
        };
        let mut fitting: Vec<(usize, u16)> =
            (0..columns.len()).map(|at| (at, wanted(at))).collect();
        let taken = |fitting: &[(usize, u16)]| {
            let gaps = gap * (fitting.len() as u16).saturating_sub(1);
            gaps + fitting.iter().map(|(_, cells)| cells).sum::<u16>()
        };
        while taken(&fitting) > room {
            let last = fitting.iter().max_by_key(|(at, _)| columns[*at].rank);
            match last {
                Some(&(at, _)) if columns[at].rank > 1 => fitting.retain(|(own, _)| *own != at),
                _ => break,
            }
        }
        // What stays and is still too wide: long names give way.
        let mut over = taken(&fitting).saturating_sub(room);
        let mut left = room.saturating_sub(taken(&fitting));
        for (at, cells) in &mut fitting {
            match columns[*at].width {
                Name(least) => {
                    let less = over.min(*cells - least);
                    *cells -= less;
                    over -= less;
                }
                Rest(_) => *cells += std::mem::take(&mut left),
                Figure(_) | Word(_) => {}
            }
        }
        fitting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pane: Pane, room: u16) -> Vec<&'static str> {
        let fitting = pane.fit(room, 1, |_| 20);
        let names = fitting.iter().map(|(at, _)| pane.columns()[*at].name);
        names.collect()
    }

    #[test]
    fn the_columns_that_matter_least_go_first() {
        assert_eq!(names(Pane::Slots, 200).len(), SLOTS.len());
        assert_eq!(names(Pane::Slots, 59), ["SLOT", "STATE", "FOR", "METHOD"],);
        assert_eq!(names(Pane::Slots, 10), ["SLOT", "STATE", "METHOD"]);
    }

    #[test]
    fn long_names_give_way_and_the_last_column_takes_what_is_left() {
        let width = |room| Pane::Failures.fit(room, 2, |_| 30);
        let (_, rest) = *width(200).last().unwrap();
        assert_eq!(rest, 200 - (10 + 30 + 16 + 30 + 8) - 5 * 2);
        let sum = |room: u16| -> u16 { width(room).iter().map(|(_, cells)| cells + 2).sum() };
        for room in 44..200 {
            assert_eq!(sum(room), room + 2, "{room}");
        }
    }
}
