//! Charts: committed operations and p99, by the number of clients.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::Outcome;
use super::results::Measured;
use super::tables::Group;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

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
    for (index, policy) in group.policies().into_iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        let points = clients.iter().filter_map(|clients| {
            let row = group.find(policy, *clients)?;
            Some((number(*clients), figure(row).max(0.1)))
        });
        chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
        if has_legend {
            let y = 40 + 20 * i32::try_from(index)?;
            area.draw(&PathElement::new(
                vec![(520, y), (540, y)],
                color.stroke_width(3),
            ))?;
            area.draw(&Text::new(policy, (546, y - 6), ("sans-serif", 13)))?;
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "it is small")]
fn number(clients: usize) -> f64 {
    clients as f64
}
