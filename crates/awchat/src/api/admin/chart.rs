//! Charts of ratings, as SVG without text: the words stand beside it in HTML, where they keep their size.

use maud::{Markup, html};

use crate::store::reports::Count;

/// How many ratings had one star, two, and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stars(pub(super) [i64; 5]);

/// A column: some days, the first of which is counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) first_day: i64,
    pub(super) days: i64,
    pub(super) stars: Stars,
}

impl Stars {
    pub(super) fn add(&mut self, stars: i64, ratings: i64) {
        if let Some(count) = usize::try_from(stars - 1).ok().and_then(|at| self.0.get_mut(at)) {
            *count += ratings;
        }
    }

    pub(super) fn total(&self) -> i64 {
        self.0.iter().sum()
    }

    /// `4.3`; `None` without a rating.
    pub(super) fn average(&self) -> Option<String> {
        let total = self.total();
        let sum: i64 = self.0.iter().zip(1..).map(|(count, stars)| count * stars).sum();
        // In tenths, rounded: a share for a person to read.
        let tenths = (total > 0).then(|| (sum * 20 + total) / (total * 2))?;
        Some(format!("{}.{}", tenths / 10, tenths % 10))
    }

    /// So many of a hundred have these stars.
    pub(super) fn percent(&self, stars: usize) -> i64 {
        let total = self.total().max(1);
        (self.0[stars - 1] * 200 + total) / (total * 2)
    }
}

/// The columns of the last `days` days up to `today`: one a day for a month, else one a week.
pub(super) fn columns(counts: &[Count<i64>], today: i64, days: i64) -> Vec<Column> {
    let width = if days > 31 { 7 } else { 1 };
    let first = today + 1 - days;
    let count = (days + width - 1) / width;
    let mut columns: Vec<Column> = (0..count)
        .map(|at| {
            // Whole weeks end today; the first may be shorter.
            let ends = today + 1 - (count - 1 - at) * width;
            let begins = (ends - width).max(first);
            Column { first_day: begins, days: ends - begins, stars: Stars::default() }
        })
        .collect();
    for count in counts {
        let is_in = |column: &&mut Column| (column.first_day..column.first_day + column.days).contains(&count.key);
        if let Some(column) = columns.iter_mut().find(is_in) {
            column.stars.add(count.stars, count.ratings);
        }
    }
    columns
}

/// Stacked columns, five stars on top. `name`: what a column is called.
pub(super) fn over_time(columns: &[Column], name: impl Fn(&Column) -> String) -> Markup {
    let most = columns.iter().map(|column| column.stars.total()).max().unwrap_or(0).max(1);
    let width = columns.len() * 10;
    html! {
        svg.columns viewBox={ "0 0 " (width) " " (most) } preserveAspectRatio="none" role="img"
            aria-label="Ratings over time; the table below has the numbers" {
            @for (at, column) in columns.iter().enumerate() {
                g {
                    title { (name(column)) }
                    // The whole height answers the pointer.
                    rect.ground x=(at * 10) y="0" width="10" height=(most) {}
                    @for (stars, below, count) in stacked(&column.stars) {
                        rect class={ "s" (stars) } x=(at * 10 + 1) y=(most - below - count) width="8" height=(count) {}
                    }
                }
            }
        }
    }
}

/// A bar with the share of each number of stars, one star on the left.
pub(super) fn share(stars: &Stars, name: &str) -> Markup {
    html! {
        svg.share viewBox={ "0 0 " (stars.total().max(1)) " 1" } preserveAspectRatio="none" role="img" aria-label=(name) {
            title { (name) }
            @for (stars, before, count) in stacked(stars) {
                rect class={ "s" (stars) } x=(before) y="0" width=(count) height="1" {}
            }
        }
    }
}

/// (stars, ratings with fewer stars, ratings with these), without the empty ones.
fn stacked(stars: &Stars) -> impl Iterator<Item = (usize, i64, i64)> {
    let mut before = 0;
    stars.0.into_iter().enumerate().filter_map(move |(at, count)| {
        let below = before;
        before += count;
        (count > 0).then_some((at + 1, below, count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_is_rounded_to_tenths() {
        assert_eq!(Stars::default().average(), None);
        for (stars, average) in [
            ([0, 0, 0, 0, 1], "5.0"),
            ([1, 0, 0, 0, 0], "1.0"),
            ([1, 0, 0, 0, 1], "3.0"),
            ([0, 0, 0, 1, 2], "4.7"),
            ([0, 0, 0, 2, 1], "4.3"),
            ([0, 0, 0, 1, 19], "5.0"),
            ([1, 1, 1, 1, 1], "3.0"),
        ] {
            assert_eq!(Stars(stars).average().as_deref(), Some(average), "{stars:?}");
        }
        assert_eq!((1..=5).map(|stars| Stars([1, 0, 0, 1, 1]).percent(stars)).collect::<Vec<_>>(), [33, 0, 0, 33, 33]);
    }

    #[test]
    fn columns_are_days_or_weeks_and_end_today() {
        let count = |key, stars, ratings| Count { key, stars, ratings };
        let counts = [count(93, 1, 1), count(94, 2, 1), count(100, 5, 2), count(100, 4, 1), count(101, 3, 9)];
        let week = columns(&counts, 100, 7);
        assert_eq!(
            week.iter().map(|column| (column.first_day, column.days)).collect::<Vec<_>>()[..2],
            [(94, 1), (95, 1)]
        );
        assert_eq!((week.len(), week[0].stars, week[6].stars), (7, Stars([0, 1, 0, 0, 0]), Stars([0, 0, 0, 1, 2])));
        let quarter = columns(&counts, 100, 90);
        assert_eq!(quarter.len(), 13);
        assert_eq!((quarter[0].first_day, quarter[0].days), (11, 6), "90 days are no whole weeks");
        assert_eq!((quarter[12].first_day, quarter[12].days), (94, 7));
        assert_eq!(quarter[12].stars, Stars([0, 1, 0, 1, 2]));
        assert_eq!(quarter.iter().map(|column| column.days).sum::<i64>(), 90);
    }

    #[test]
    fn a_column_is_as_high_as_its_ratings() {
        let columns =
            columns(&[Count { key: 100, stars: 1, ratings: 3 }, Count { key: 100, stars: 5, ratings: 1 }], 100, 7);
        let svg = over_time(&columns, |column| format!("<day {}>", column.first_day)).into_string();
        assert!(svg.contains(r#"viewBox="0 0 70 4""#), "{svg}");
        assert!(svg.contains(r#"<rect class="s1" x="61" y="1" width="8" height="3">"#), "{svg}");
        assert!(svg.contains(r#"<rect class="s5" x="61" y="0" width="8" height="1">"#), "{svg}");
        assert!(svg.contains("<title>&lt;day 100&gt;</title>"), "{svg}");
    }
}
