//! Colours and marks. For dark mode, `style.css` selects elements by these colours.

use plotters::style::RGBColor;

/// Text and axes, in the page's text colour.
pub(super) const INK: RGBColor = RGBColor(0, 0, 0);
/// The page's background.
pub(super) const PAPER: RGBColor = RGBColor(255, 255, 255);
/// Grid lines, in light and dark mode.
pub(super) const GRID: RGBColor = RGBColor(128, 128, 128);
/// Text on a dark area, in light and dark mode.
pub(super) const ON_DARK: RGBColor = RGBColor(254, 254, 254);
/// Text on a light area, in light and dark mode.
pub(super) const ON_LIGHT: RGBColor = RGBColor(1, 1, 1);

/// The parts of the ledger, user memory first and then the kernel's, each with the colour of its text. They differ in
/// lightness, and in hue only between blue and yellow, which nearly everyone can distinguish.
pub(super) const PARTS: [(RGBColor, RGBColor); 5] = [
    (RGBColor(0x2F, 0x5D, 0x9B), ON_DARK),
    (RGBColor(0x74, 0xA5, 0xD8), ON_LIGHT),
    (RGBColor(0xC3, 0xDA, 0xEE), ON_LIGHT),
    (RGBColor(0xF2, 0xDD, 0x8C), ON_LIGHT),
    (RGBColor(0x9C, 0x7A, 0x1E), ON_DARK),
];

/// How a model looks in all charts: a colour, and a mark for readers who cannot distinguish colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Look {
    /// The colour of its lines, bars and marks.
    pub(super) colour: RGBColor,
    /// The mark on its lines.
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

/// The project's servers in the order of `Target::ALL`, then other servers. The colours are those of Okabe and Ito
/// (<https://jfly.uni-koeln.de/color/>) without yellow, which is too light on white, and a brown and a grey.
pub(super) const LOOKS: [Look; 8] = [
    Look { colour: RGBColor(0xD5, 0x5E, 0x00), mark: Mark::Circle },
    Look { colour: RGBColor(0x00, 0x72, 0xB2), mark: Mark::Square },
    Look { colour: RGBColor(0x00, 0x9E, 0x73), mark: Mark::Triangle },
    Look { colour: RGBColor(0xCC, 0x79, 0xA7), mark: Mark::Diamond },
    Look { colour: RGBColor(0xE6, 0x9F, 0x00), mark: Mark::Cross },
    Look { colour: RGBColor(0x56, 0xB4, 0xE9), mark: Mark::Plus },
    Look { colour: RGBColor(0x99, 0x66, 0x33), mark: Mark::Square },
    Look { colour: RGBColor(0x80, 0x80, 0x80), mark: Mark::Circle },
];
