//! Charts: committed operations and p99, by the number of clients; and what happens over time.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::Outcome;
use super::results::Measured;
use super::tables::Group;

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A policy, and its points.
pub(crate) type Line<'a> = (&'a str, Vec<(f64, f64)>);

/// Draws both into a file.
pub(crate) fn draw(group: &Group, path: &Path) -> Outcome<()> {
    let whole = SVGBackend::new(path, (1200, 480)).into_drawing_area();
    whole.fill(&WHITE)?;
    let (left, right) = whole.split_horizontally(700);
    panel(&left, group, "committed per second", true, |row| {
        row.per_second()
    })?;
    panel(&right, group, "p99, ms", false, |row| row.p99)?;
    Ok(whole.present()?)
}

/// One of them. Both axes are logarithmic; what is smaller than 0.1 is drawn there.
fn panel(
    area: &Area<'_>,
    group: &Group,
    title: &str,
    has_legend: bool,
    figure: fn(&Measured) -> f64,
) -> Outcome<()> {
    let clients = group.clients();
    let (Some(first), Some(last)) = (clients.first(), clients.last()) else {
        return Ok(());
    };
    let figures = group.rows.iter().map(figure);
    let top = figures.fold(1.0, f64::max) * 1.5;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(8)
        .margin_right(if has_legend { 190 } else { 12 })
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(
            (number(*first)..number(*last)).log_scale().base(2.0),
            (0.1..top).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("clients")
        .x_labels(clients.len())
        .x_label_formatter(&|clients| format!("{clients:.0}"))
        .y_label_formatter(&|figure| figure.to_string())
        .draw()?;
    for (index, policy) in group.policies_across().into_iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        let points = clients.iter().filter_map(|clients| {
            let row = group.find(policy, *clients)?;
            Some((number(*clients), figure(row).max(0.1)))
        });
        chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
        if has_legend {
            explain(area, index, policy, 520)?;
        }
    }
    Ok(())
}

/// A line of the legend.
pub(crate) fn explain(area: &Area<'_>, index: usize, name: &str, x: i32) -> Outcome<()> {
    let y = 40 + 20 * i32::try_from(index)?;
    let color = Palette99::pick(index).stroke_width(3);
    area.draw(&PathElement::new(vec![(x, y), (x + 20, y)], color))?;
    let text = Text::new(name, (x + 26, y - 6), ("sans-serif", 13));
    Ok(area.draw(&text)?)
}

/// A line of points for each policy: seconds, and what there was in them. The second axis is logarithmic;
/// what is less than one is drawn there.
pub(crate) fn draw_over_time(title: &str, lines: &[Line<'_>], path: &Path) -> Outcome<()> {
    let area = SVGBackend::new(path, (1200, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let points = || lines.iter().flat_map(|(_, points)| points);
    let first = points().map(|(second, _)| *second).fold(0.0, f64::min);
    let last = points().map(|(second, _)| *second).fold(1.0, f64::max);
    let top = points().map(|(_, figure)| *figure).fold(10.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(8)
        .margin_right(230)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(first..last, (1.0..top * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("seconds since the server was stopped")
        .x_label_formatter(&|second| format!("{second:.0}"))
        .y_label_formatter(&|figure| figure.to_string())
        .draw()?;
    for (index, (policy, points)) in lines.iter().enumerate() {
        let points = points
            .iter()
            .map(|(second, figure)| (*second, figure.max(1.0)));
        let color = Palette99::pick(index).stroke_width(2);
        chart.draw_series(LineSeries::new(points, color))?;
        explain(&area, index, policy, 985)?;
    }
    Ok(area.present()?)
}

/// The name of a file with this title.
pub(crate) fn file_name(title: &str) -> String {
    let letters = title.to_lowercase();
    let words = letters.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("-")
}

#[expect(clippy::cast_precision_loss, reason = "it is small")]
fn number(clients: usize) -> f64 {
    clients as f64
}
