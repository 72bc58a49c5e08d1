//! Colours and marks. The style sheet follows dark mode by the names of these colours: see `style.css`.

use plotters::style::RGBColor;

/// Text and axes: the page's own text colour.
pub(super) const INK: RGBColor = RGBColor(0, 0, 0);
/// Behind everything: the page's own background.
pub(super) const PAPER: RGBColor = RGBColor(255, 255, 255);
/// Lines of the grid, in light and in dark mode.
pub(super) const GRID: RGBColor = RGBColor(128, 128, 128);
/// Text on a dark area, whatever the page's colours.
pub(super) const ON_DARK: RGBColor = RGBColor(254, 254, 254);
/// Text on a light area, whatever the page's colours.
pub(super) const ON_LIGHT: RGBColor = RGBColor(1, 1, 1);

/// The parts of the ledger, the user's and then the kernel's, each with the colour of the text on it. They differ in
/// lightness, and in hue between blue and yellow alone, which nearly everybody can tell apart.
pub(super) const PARTS: [(RGBColor, RGBColor); 5] = [
    (RGBColor(0x2F, 0x5D, 0x9B), ON_DARK),
    (RGBColor(0x74, 0xA5, 0xD8), ON_LIGHT),
    (RGBColor(0xC3, 0xDA, 0xEE), ON_LIGHT),
    (RGBColor(0xF2, 0xDD, 0x8C), ON_LIGHT),
    (RGBColor(0x9C, 0x7A, 0x1E), ON_DARK),
];

/// How a model looks in all charts: a colour, and a mark for who cannot tell it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Look {
    /// Of the line, the bar, the mark.
    pub(super) colour: RGBColor,
    /// On the line.
    pub(super) mark: Mark,
}

/// The shape of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
    Plus,
}

/// The project's own servers, in the order of `Target::ALL`, and then others. The colours are those of Okabe and Ito
/// (<https://jfly.uni-koeln.de/color/>), less yellow, which is too light on white.
pub(super) const LOOKS: [Look; 7] = [
    Look { colour: RGBColor(0xD5, 0x5E, 0x00), mark: Mark::Circle },
    Look { colour: RGBColor(0x00, 0x72, 0xB2), mark: Mark::Square },
    Look { colour: RGBColor(0x00, 0x9E, 0x73), mark: Mark::Triangle },
    Look { colour: RGBColor(0xCC, 0x79, 0xA7), mark: Mark::Diamond },
    Look { colour: RGBColor(0xE6, 0x9F, 0x00), mark: Mark::Cross },
    Look { colour: RGBColor(0x56, 0xB4, 0xE9), mark: Mark::Plus },
    Look { colour: RGBColor(0x80, 0x80, 0x80), mark: Mark::Circle },
];
