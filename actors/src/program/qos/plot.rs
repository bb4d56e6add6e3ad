//! The trade-off, drawn: detection time against mistakes, one panel for each trace, one curve for
//! each detector, and a dot at its default setting.

use std::path::Path;

use heartbeat_core::MistakeRate;
use heartbeat_core::detection::qos::Contender;
use plotters::prelude::{
    ChartBuilder, Circle, Color, EmptyElement, IntoDrawingArea, IntoFont, IntoLogRange, LineSeries, PathElement,
    RGBColor, SVGBackend, SeriesLabelPosition, Text, WHITE,
};

use crate::Failure;
use crate::qos::{Report, Score};

const PANEL: (u32, u32) = (760, 440);

/// Draws the curves of all reports into `path`.
pub(crate) fn draw(path: &Path, reports: &[Report], mistakes: MistakeRate) -> Result<(), Failure> {
    Ok(std::fs::write(path, svg(reports, mistakes)?)?)
}

/// The curves of all reports.
pub(crate) fn svg(reports: &[Report], mistakes: MistakeRate) -> Result<String, Failure> {
    let mut svg = String::new();
    {
        let size = (PANEL.0, PANEL.1 * reports.len() as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        for (panel, report) in root.split_evenly((reports.len(), 1)).into_iter().zip(reports) {
            panel_of(&panel, report, mistakes)?;
        }
        root.present()?;
    }
    Ok(svg)
}

type Area<'a> = plotters::drawing::DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn panel_of(area: &Area<'_>, report: &Report, mistakes: MistakeRate) -> Result<(), Failure> {
    let hours = report.swept.first().map_or(1.0, |score| score.quality.scored.as_secs_f64() / 3_600.0);
    // No mistake at all has no place on a logarithmic axis: it is drawn at the bottom, at half a
    // mistake in the whole trace.
    let floor = 0.5 / hours;
    let point =
        |score: &Score| (score.quality.detection_mean.as_secs_f64(), score.quality.mistakes_per_hour().max(floor));
    let times = report.swept.iter().map(|score| point(score).0);
    let (least, most) = times.fold((f64::MAX, 0.0f64), |(least, most), time| (least.min(time), most.max(time)));
    let caption = format!("{} (interval {:?})", report.name, report.interval);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 18).into_font())
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(70)
        .build_cartesian_2d((least * 0.9..most.min(20.0)).log_scale(), (floor * 0.8..2_000.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("mean detection time, in seconds")
        .y_desc("mistakes an hour (at the bottom: none)")
        .x_label_formatter(&|seconds| format!("{seconds}"))
        .y_label_formatter(&|rate| format!("{rate}"))
        .light_line_style(RGBColor(238, 238, 238))
        .draw()?;
    for contender in Contender::ALL {
        let points: Vec<(f64, f64)> =
            report.swept.iter().filter(|score| score.contender == contender).map(point).collect();
        if points.is_empty() {
            continue;
        }
        let color = color(contender);
        let width = if contender == Contender::Budget { 3 } else { 1 };
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(width)))?
            .label(contender.name())
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], color.stroke_width(width)));
    }
    // Where each stands by default; the budget where it was asked to stand.
    chart.draw_series(report.asked.iter().map(|score| {
        let is_budget = score.contender == Contender::Budget;
        let text = if is_budget { format!("{mistakes} asked for") } else { String::new() };
        EmptyElement::at(point(score))
            + Circle::new((0, 0), if is_budget { 5 } else { 3 }, color(score.contender).filled())
            + Text::new(text, (9, -14), ("sans-serif", 13).into_font())
    }))?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(180, 180, 180))
        .draw()?;
    Ok(())
}

/// Colours that differ for red-green colour-blind readers, too (Okabe and Ito, "Color universal
/// design", 2008).
fn color(contender: Contender) -> RGBColor {
    match contender {
        Contender::Budget => RGBColor(213, 94, 0),
        Contender::Fixed => RGBColor(0, 0, 0),
        Contender::Chen => RGBColor(0, 114, 178),
        Contender::PhiAkka => RGBColor(0, 158, 115),
        Contender::PhiCassandra => RGBColor(204, 121, 167),
    }
}
