//! The building blocks of all charts. Each is drawn twice: for wide screens and paper, and for phones.

use anyhow::Result;
use maud::{Markup, PreEscaped, html};
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::drawing::{DrawingArea, IntoDrawingArea as _};
use plotters::element::{Circle, DashedPathElement, PathElement, Polygon, Rectangle};
use plotters::prelude::SVGBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontStyle, IntoFont as _, IntoTextStyle as _, RGBColor, ShapeStyle};

use super::axis::Axis;
use super::models::Model;
use super::palette::{GRID, INK, Look, Mark, PAPER};

/// The widths that charts are drawn for, in pixels.
const WIDTHS: [(&str, u32); 2] = [("wide", WIDE), ("narrow", 350)];
const WIDE: u32 = 720;
/// The size of a mark in a legend.
const SAMPLE: (u32, u32) = (28, 14);
/// Pixels for the title and the legend of a standalone image.
const IMAGE_HEAD: u32 = 56;
/// Approximate pixels per character of a label; the font is unknown here.
const CHARACTER: i32 = 7;
const TEXT_SIZE: f64 = 13.0;
/// plotters divides font sizes by this.
const FONT_RATIO: f64 = 1.24;

/// The part of the page's style that a standalone chart needs.
const IMAGE_STYLE: &str = "
    :root { color: #1a1d21; background: #ffffff; --paper: #ffffff; }
    @media (prefers-color-scheme: dark) { :root { color: #e6e8eb; background: #14171b; --paper: #14171b; } }
    text { font-family: Helvetica, Arial, 'Liberation Sans', sans-serif; }
    [fill='#000000'] { fill: currentColor; }
    [stroke='#000000'] { stroke: currentColor; }
    [fill='#FFFFFF'] { fill: var(--paper); }
";

/// A point on the canvas, from the left and the top.
pub(super) type Pixel = (i32, i32);

/// The area that a chart is drawn on.
pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A chart on the page with its texts.
#[derive(Debug)]
pub(super) struct ChartFigure {
    /// What it shows, in a few words.
    pub(super) title: String,
    /// How to read it.
    pub(super) caption: Markup,
    /// The meaning of its marks and colours.
    pub(super) legend: Markup,
    /// In pixels.
    pub(super) height: u32,
}

impl ChartFigure {
    /// Draws the chart in each width.
    pub(super) fn draw(self, chart: impl Fn(&Canvas<'_>) -> Result<()>) -> Result<Markup> {
        let drawings = WIDTHS.map(|(class, width)| Ok((class, draw((width, self.height), &chart)?)));
        let drawings = drawings.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(html! {
            figure {
                h3 { (self.title) }
                (self.legend)
                @for (class, (width, height, content)) in drawings {
                    svg class=(class) role="img" aria-label=(self.title) viewBox={ "0 0 " (width) " " (height) } {
                        title { (self.title) }
                        (PreEscaped(content))
                    }
                }
                figcaption { (self.caption) }
            }
        })
    }
}

impl ChartFigure {
    /// Draws the chart as a standalone image that follows the reader's light or dark mode, below its title and the
    /// meaning of these marks.
    pub(super) fn image(self, marks: &[LegendMark], chart: impl Fn(&Canvas<'_>) -> Result<()>) -> Result<String> {
        let (width, height, content) = draw((WIDE, self.height), chart)?;
        let height = height + IMAGE_HEAD;
        let image = html! {
            svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) } {
                title { (self.title) }
                style { (PreEscaped(IMAGE_STYLE)) }
                text x="4" y="18" font-size="16" font-weight="bold" fill="#000000" { (self.title) }
                @for (mark, x) in marks.iter().zip(mark_places(marks)) {
                    g transform={ "translate(" (x) " 28)" } {
                        (PreEscaped(&mark.drawing))
                        text x="32" y="12" font-size=(TEXT_SIZE) fill="#000000" { (mark.meaning) }
                    }
                }
                g transform={ "translate(0 " (IMAGE_HEAD) ")" } { (PreEscaped(content)) }
            }
        };
        Ok(image.into_string() + "\n")
    }
}

/// The x of each mark, one after the other.
fn mark_places(marks: &[LegendMark]) -> impl Iterator<Item = i32> {
    let widths = marks.iter().map(|mark| 32 + mark.meaning.chars().count() as i32 * CHARACTER + 16);
    widths.scan(0, |x, width| Some(std::mem::replace(x, *x + width)))
}

/// A mark and its meaning.
#[derive(Debug)]
pub(super) struct LegendMark {
    /// As SVG, [`SAMPLE`] in size.
    drawing: String,
    meaning: String,
}

impl LegendMark {
    /// A mark as drawn by `content`.
    pub(super) fn new(meaning: impl Into<String>, content: impl Fn(&Canvas<'_>) -> Result<()>) -> Result<Self> {
        Ok(Self { drawing: draw(SAMPLE, content)?.2, meaning: meaning.into() })
    }

    /// These marks as a list for the page.
    pub(super) fn list(marks: &[Self]) -> Markup {
        html! { ul.legend { @for mark in marks { li { (swatch_markup(&mark.drawing)) (mark.meaning) } } } }
    }
}

/// The size of an image and its elements.
type Drawing = (u32, u32, String);

fn draw(size: (u32, u32), chart: impl Fn(&Canvas<'_>) -> Result<()>) -> Result<Drawing> {
    let mut image = String::new();
    let canvas = SVGBackend::with_string(&mut image, size).into_drawing_area();
    chart(&canvas)?;
    canvas.present()?;
    drop(canvas);
    // The page wraps the content in its own `svg`, with attributes for screen readers.
    let content = image.split_once('>').and_then(|(_, rest)| rest.trim_end().strip_suffix("</svg>"));
    Ok((size.0, size.1, content.unwrap_or_default().to_owned()))
}

/// Whether the canvas is for a wide screen.
pub(super) fn is_wide(canvas: &Canvas<'_>) -> bool {
    canvas.dim_in_pixel().0 >= WIDE
}

/// A legend of the models with their colours and marks.
pub(super) fn legend(models: &[&Model<'_>], is_line: bool) -> Result<Markup> {
    legend_with(models, is_line, |model| model.name.to_owned())
}

/// The same with these labels.
pub(super) fn legend_with(
    models: &[&Model<'_>],
    is_line: bool,
    label: impl Fn(&Model<'_>) -> String,
) -> Result<Markup> {
    let swatches = models.iter().map(|model| Ok((label(model), swatch(model.look, is_line)?)));
    let swatches = swatches.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        ul.legend {
            @for (name, swatch) in swatches { li { (swatch) (name) } }
        }
    })
}

fn swatch(look: Look, is_line: bool) -> Result<Markup> {
    sample(|canvas| {
        if is_line {
            line(canvas, &[(0, 7), (28, 7)], look.colour, 2)?;
        }
        mark(canvas, (14, 7), look)
    })
}

/// A small image for use in text.
pub(super) fn sample(content: impl Fn(&Canvas<'_>) -> Result<()>) -> Result<Markup> {
    Ok(swatch_markup(&draw(SAMPLE, content)?.2))
}

fn swatch_markup(drawing: &str) -> Markup {
    let (width, height) = SAMPLE;
    html! { svg.swatch aria-hidden="true" viewBox={ "0 0 " (width) " " (height) } { (PreEscaped(drawing)) } }
}

type Context<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;

/// Two axes, and the area between them.
pub(super) struct Plot<'a> {
    context: Context<'a>,
    x: Axis,
    y: Axis,
}

impl<'a> Plot<'a> {
    /// Draws the axes of a line chart.
    pub(super) fn line_chart(canvas: &Canvas<'a>, x: Axis, y: Axis) -> Result<Self> {
        let (width, height) = canvas.dim_in_pixel();
        let (left, right, top, bottom) = (58, 16, 26, 44);
        let x = x.fitted_across(width as i32 - left - right, right, CHARACTER);
        let y = y.fitted_upwards(height as i32 - top - bottom, 18);
        text(canvas, &y.title, (4, 2), (HPos::Left, VPos::Top))?;
        let mut chart = ChartBuilder::on(canvas);
        chart.margin_top(top).margin_right(right).x_label_area_size(bottom).y_label_area_size(left);
        let mut context = chart.build_cartesian_2d(x.clone(), y.clone())?;
        draw_mesh(&mut context, &x.title)?;
        Ok(Self { context, x, y })
    }

    /// Draws the x axis of a chart with a row for each name, from the top, and leaves `right` pixels free beside it.
    pub(super) fn row_chart(canvas: &Canvas<'a>, names: &[String], x: Axis, right: i32) -> Result<Self> {
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) as i32;
        let left = longest * CHARACTER + 18;
        let x = x.fitted_across(canvas.dim_in_pixel().0 as i32 - left - right, right, CHARACTER);
        let y = Axis::linear("", names.len() as f64, |_| String::new()).with_ticks(Vec::new());
        let mut chart = ChartBuilder::on(canvas);
        chart.margin_right(right).margin_top(4).x_label_area_size(44).y_label_area_size(left);
        let mut context = chart.build_cartesian_2d(x.clone(), y.clone())?;
        draw_mesh(&mut context, &x.title)?;
        let plot = Self { context, x, y };
        for (row, name) in names.iter().enumerate() {
            text(canvas, name, (left - 8, plot.row(row)), (HPos::Right, VPos::Center))?;
        }
        Ok(plot)
    }

    /// The pixel of a point.
    pub(super) fn at(&self, x: f64, y: f64) -> Pixel {
        self.context.backend_coord(&(x, y))
    }

    /// The x pixel of a value.
    pub(super) fn x(&self, x: f64) -> i32 {
        self.at(x, self.y.from()).0
    }

    /// The y pixel of the middle of a row, counted from the top.
    pub(super) fn row(&self, row: usize) -> i32 {
        self.at(self.x.from(), self.y.to() - row as f64 - 0.5).1
    }

    /// The bottom left corner.
    pub(super) fn origin(&self) -> Pixel {
        self.at(self.x.from(), self.y.from())
    }

    /// The right end.
    pub(super) fn right(&self) -> i32 {
        self.x(self.x.to())
    }
}

fn draw_mesh(context: &mut Context<'_>, x_title: &str) -> Result<()> {
    let mut mesh = context.configure_mesh();
    mesh.bold_line_style(GRID.mix(0.3)).light_line_style(GRID.mix(0.12)).axis_style(GRID);
    Ok(mesh.label_style(label_font()).x_desc(x_title).draw()?)
}

/// Writes a label.
pub(super) fn text(canvas: &Canvas<'_>, label: &str, at: Pixel, anchor: (HPos, VPos)) -> Result<()> {
    styled_text(canvas, label, at, anchor, INK, FontStyle::Normal)
}

/// Writes a figure that stands out.
pub(super) fn bold_text(canvas: &Canvas<'_>, label: &str, at: Pixel, anchor: (HPos, VPos)) -> Result<()> {
    styled_text(canvas, label, at, anchor, INK, FontStyle::Bold)
}

/// The middle of a label, as near to `x` as fits between `left` and `right`.
pub(super) fn within(x: i32, label: &str, (left, right): (i32, i32)) -> i32 {
    // Leave room for bold text.
    let half = label.chars().count() as i32 * (CHARACTER + 1) / 2;
    x.min(right - half).max(left + half)
}

/// Writes in a colour.
pub(super) fn styled_text(
    canvas: &Canvas<'_>,
    label: &str,
    at: Pixel,
    (horizontal, vertical): (HPos, VPos),
    colour: RGBColor,
    style: FontStyle,
) -> Result<()> {
    let font = ("sans-serif", TEXT_SIZE * FONT_RATIO, style).into_font();
    let style = font.into_text_style(canvas).color(&colour).pos(Pos::new(horizontal, vertical));
    Ok(canvas.draw_text(label, &style, at)?)
}

fn label_font() -> (&'static str, f64) {
    ("sans-serif", (TEXT_SIZE - 1.0) * FONT_RATIO)
}

/// The label, cut to fit.
pub(super) fn shortened(label: &str, width_px: i32) -> String {
    let room = (width_px / CHARACTER).max(1) as usize;
    if label.chars().count() <= room {
        return label.to_owned();
    }
    label.chars().take(room - 1).chain(['…']).collect()
}

/// Names, cut to fit in the middle, because URLs differ at both ends. Those that look the same then are numbered.
pub(super) fn shortened_apart(names: &[&str], width_px: i32) -> Vec<String> {
    let room = (width_px / CHARACTER).max(5) as usize;
    let cut = |name: &str, room: usize| {
        let name = name.split_once("://").map_or(name, |(_, rest)| rest);
        let length = name.chars().count();
        let (head, tail) = ((room - 1) / 2, room / 2);
        if length <= room {
            return name.to_owned();
        }
        name.chars().take(head).chain(['…']).chain(name.chars().skip(length - tail)).collect()
    };
    let cuts: Vec<String> = names.iter().map(|name| cut(name, room)).collect();
    let is_double = |cut: &String| cuts.iter().filter(|other| *other == cut).count() > 1;
    let numbered = cuts.iter().enumerate().map(|(index, short)| match is_double(short) {
        true => format!("{}: {}", index + 1, cut(names[index], room - 3)),
        false => short.clone(),
    });
    numbered.collect()
}

/// Draws a line.
pub(super) fn line(canvas: &Canvas<'_>, points: &[Pixel], colour: RGBColor, width: u32) -> Result<()> {
    if points.len() < 2 {
        return Ok(());
    }
    Ok(canvas.draw(&PathElement::new(points.to_vec(), colour.stroke_width(width)))?)
}

/// Draws a dashed line.
pub(super) fn dashed_line(canvas: &Canvas<'_>, points: &[Pixel], colour: RGBColor, width: u32) -> Result<()> {
    if points.len() < 2 {
        return Ok(());
    }
    Ok(canvas.draw(&DashedPathElement::new(points.iter().copied(), 4, 4, colour.stroke_width(width)))?)
}

/// Fills a rectangle.
pub(super) fn bar(canvas: &Canvas<'_>, from: Pixel, to: Pixel, colour: RGBColor) -> Result<()> {
    Ok(canvas.draw(&Rectangle::new([from, to], colour.filled()))?)
}

/// Draws a model's mark.
pub(super) fn mark(canvas: &Canvas<'_>, (x, y): Pixel, look: Look) -> Result<()> {
    let filled = look.colour.filled();
    let corners = |corners: &[Pixel]| corners.iter().map(|&(dx, dy)| (x + dx, y + dy)).collect::<Vec<_>>();
    match look.mark {
        Mark::Circle => canvas.draw(&Circle::new((x, y), 5, filled))?,
        Mark::Square => canvas.draw(&Rectangle::new([(x - 4, y - 4), (x + 5, y + 5)], filled))?,
        Mark::Triangle => canvas.draw(&Polygon::new(corners(&[(0, -6), (6, 5), (-6, 5)]), filled))?,
        Mark::Diamond => canvas.draw(&Polygon::new(corners(&[(0, -6), (6, 0), (0, 6), (-6, 0)]), filled))?,
        Mark::Cross => strokes(canvas, &[corners(&[(-4, -4), (4, 4)]), corners(&[(-4, 4), (4, -4)])], look.colour)?,
        Mark::Plus => strokes(canvas, &[corners(&[(-6, 0), (6, 0)]), corners(&[(0, -6), (0, 6)])], look.colour)?,
    }
    Ok(())
}

fn strokes(canvas: &Canvas<'_>, strokes: &[Vec<Pixel>], colour: RGBColor) -> Result<()> {
    strokes.iter().try_for_each(|stroke| line(canvas, stroke, colour, 3))
}

/// Draws the mark of a claim: an empty diamond.
pub(super) fn claim_mark(canvas: &Canvas<'_>, (x, y): Pixel) -> Result<()> {
    let corners = [(x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y)];
    canvas.draw(&Polygon::new(corners.to_vec(), PAPER.filled()))?;
    let outline: Vec<Pixel> = corners.into_iter().chain([corners[0], corners[1]]).collect();
    line(canvas, &outline, INK, 2)
}

/// Draws the mark of a failure: a circled cross in the model's colour.
pub(super) fn failure_mark(canvas: &Canvas<'_>, at: Pixel, colour: RGBColor) -> Result<()> {
    canvas.draw(&Circle::new(at, 7, PAPER.filled()))?;
    canvas.draw(&Circle::new(at, 7, ShapeStyle { color: colour.to_rgba(), filled: false, stroke_width: 2 }))?;
    let (x, y) = at;
    strokes(canvas, &[vec![(x - 3, y - 3), (x + 3, y + 3)], vec![(x - 3, y + 3), (x + 3, y - 3)]], colour)
}

/// Draws an arrow that means "or more".
pub(super) fn or_more_mark(canvas: &Canvas<'_>, (x, y): Pixel, colour: RGBColor) -> Result<()> {
    line(canvas, &[(x, y), (x, y - 12)], colour, 2)?;
    line(canvas, &[(x - 4, y - 8), (x, y - 12), (x + 4, y - 8)], colour, 2)
}

/// Draws the spread of a figure as a bar with ends.
pub(super) fn spread_bar(canvas: &Canvas<'_>, from: Pixel, to: Pixel, colour: RGBColor) -> Result<()> {
    let (across_x, across_y) = if from.0 == to.0 { (4, 0) } else { (0, 4) };
    line(canvas, &[from, to], colour, 2)?;
    for (x, y) in [from, to] {
        line(canvas, &[(x - across_x, y - across_y), (x + across_x, y + across_y)], colour, 2)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_urls_stay_apart() {
        let short = |names: &[&str]| shortened_apart(names, 16 * CHARACTER);
        assert_eq!(short(&["threads", "http://[::1]/"]), ["threads", "[::1]/"]);
        assert_eq!(
            short(&[
                "http://127.0.0.1:8080/some/path/a",
                "http://127.0.0.1:8080/some/path/b",
                "http://127.0.0.2:8080/some/path/a"
            ]),
            ["1: 127.0.…path/a", "127.0.0…e/path/b", "3: 127.0.…path/a"]
        );
    }
}
