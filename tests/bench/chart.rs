//! Charts: what guarantees cost, and what threads do to that.

use std::path::Path;

use plotters::prelude::*;

use super::interval::Interval;
use super::page::{GUARANTEES, Group, is_sync, pairs_of};
use super::record::Measured;
use crate::storm::Outcome;
use crate::storm::chart::explain;

/// An interval for each guarantee and place, one below the other.
pub(crate) fn draw_guarantees(groups: &[Group<'_>], path: &Path) -> Outcome<()> {
    let groups: Vec<_> = groups.iter().filter(|group| is_sync(group)).collect();
    let measured = |guarantee| groups.iter().any(|group| group.find(guarantee).is_some());
    let rows: Vec<_> = GUARANTEES.iter().filter(|row| measured(row)).collect();
    let intervals = groups.iter().flat_map(|group| &group.rows);
    let (low, high) = range(intervals.map(|row| row.interval));
    let step = 12 * i32::try_from(groups.len())? + 16;
    let height = 70 + step * i32::try_from(rows.len())?;
    let area = SVGBackend::new(path, (1200, u32::try_from(height)?)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .margin_left(360)
        .margin_right(290)
        .x_label_area_size(40)
        .build_cartesian_2d(low..high, number(rows.len())..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc("operations per second, as a share of those without it")
        .x_label_formatter(&|ratio| format!("{ratio:.2}"))
        .draw()?;
    let one = PathElement::new(vec![(1.0, 0.0), (1.0, number(rows.len()))], BLACK);
    chart.draw_series([one])?;
    let lines = number(groups.len()) + 1.0;
    for (index, group) in groups.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        for (row, guarantee) in rows.iter().enumerate() {
            let y = number(row) + number(index + 1) / lines;
            if let Some(found) = group.find(guarantee) {
                let Interval { ratio, low, high } = within(found.interval, (low, high));
                let line = PathElement::new(vec![(low, y), (high, y)], color.stroke_width(2));
                chart.draw_series([line])?;
                chart.draw_series([Circle::new((ratio, y), 3, color.filled())])?;
            }
        }
        explain(&area, index, &group.title.replace(", sync", ""), 920)?;
    }
    for (row, guarantee) in rows.iter().enumerate() {
        let y = 8 + step * i32::try_from(row)? + step / 2 - 7;
        let style = ("sans-serif", 13);
        area.draw(&Text::new(guarantee.what, (12, y), style))?;
    }
    Ok(area.present()?)
}

/// A line for each pair of cases, with the interval of each point.
pub(crate) fn draw_threads(rows: &[&Measured], path: &Path) -> Outcome<()> {
    let area = SVGBackend::new(path, (1200, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let threads = || rows.iter().map(|row| f64::from(row.connections));
    let (first, last) = (
        threads().fold(f64::MAX, f64::min),
        threads().fold(1.0, f64::max),
    );
    let (low, high) = range(rows.iter().map(|row| row.interval));
    // A little room, so that the first and the last interval are not cut off.
    let room = (first * 0.9)..(last * 1.1);
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .margin_right(290)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(room.log_scale().base(2.0), low..high)?;
    chart
        .configure_mesh()
        .x_desc("threads")
        .y_desc("ratio")
        .x_label_formatter(&|threads| format!("{threads:.0}"))
        .y_label_formatter(&|ratio| format!("{ratio:.2}"))
        .draw()?;
    for (index, (case, partner)) in pairs_of(rows).iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        let of_pair = || {
            let rows = rows.iter();
            rows.filter(|row| (&row.case, &row.partner) == (case, partner))
        };
        let points = of_pair().map(|row| {
            (
                f64::from(row.connections),
                row.interval.ratio.clamp(low, high),
            )
        });
        chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
        for row in of_pair() {
            let x = f64::from(row.connections);
            let Interval { ratio, low, high } = within(row.interval, (low, high));
            let line = PathElement::new(vec![(x, low), (x, high)], color.stroke_width(1));
            chart.draw_series([line])?;
            chart.draw_series([Circle::new((x, ratio), 3, color.filled())])?;
        }
        explain(&area, index, &format!("{case} / {partner}"), 920)?;
    }
    Ok(area.present()?)
}

/// From the lowest to the highest, one in it, but no further than a chart can show.
fn range(intervals: impl Iterator<Item = Interval>) -> (f64, f64) {
    let (mut low, mut high) = (0.9_f64, 1.1_f64);
    for interval in intervals {
        low = low.min(interval.low - 0.02);
        high = high.max(interval.high + 0.02);
    }
    (low.max(0.0), high.min(3.0))
}

/// What of an interval a chart shows.
fn within(interval: Interval, (low, high): (f64, f64)) -> Interval {
    let shown = |ratio: f64| ratio.clamp(low, high);
    Interval {
        ratio: shown(interval.ratio),
        low: shown(interval.low),
        high: shown(interval.high),
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is small")]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_room_for_its_intervals() {
        let interval = |low, high| Interval {
            ratio: 1.0,
            low,
            high,
        };
        assert_eq!(range([].into_iter()), (0.9, 1.1));
        assert_eq!(range([interval(-1.0, 9.0)].into_iter()), (0.0, 3.0));
        let (low, high) = range([interval(0.5, 1.2), interval(0.8, 1.0)].into_iter());
        assert!(low < 0.5 && low > 0.4 && high > 1.2 && high < 1.3);
    }
}
