//! Progress and pictures in the terminal.

use std::io::Write;

use image::{RgbImage, imageops::FilterType};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use rushlight_protocol::{Audience, BinaryFrame, Event};
use rushlight_runtime::EventSink;

/// Columns of a picture drawn in the terminal.
const PICTURE_COLUMNS: u32 = 32;

/// Shows a run's events as a progress bar, and its previews if asked to.
pub struct TerminalSink {
    bar: ProgressBar,
    show_previews: bool,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    node: String,
    failure: Option<String>,
}

impl TerminalSink {
    /// A bar that has not begun.
    pub fn new(show_previews: bool) -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{msg:28!} {wide_bar} {pos}/{len} {elapsed}") {
            bar.set_style(style);
        }
        Self { bar, show_previews, last: Mutex::default() }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// A blocker's message, if one came during the run.
    pub fn failure(&self) -> Option<String> {
        self.last.lock().failure.clone()
    }
}

impl EventSink for TerminalSink {
    fn send(&self, _to: &Audience, event: Event) {
        match event {
            Event::Executing { node, .. } => {
                self.last.lock().node = node.to_string();
                self.bar.set_length(0);
                self.bar.set_position(0);
                self.bar.set_message(format!("node {node}"));
            }
            Event::Progress { value, max, .. } => {
                self.bar.set_length(max.as_f64().unwrap_or(0.0) as u64);
                self.bar.set_position(value.as_f64().unwrap_or(0.0) as u64);
            }
            Event::ExecutionError(error) => self.last.lock().failure = Some(error.exception_message.clone()),
            Event::Binary(BinaryFrame::Text { text, .. }) => self.bar.set_message(text.to_string()),
            Event::Binary(BinaryFrame::Preview { image, .. }) if self.show_previews => {
                if let Ok(picture) = image::load_from_memory(&image) {
                    self.bar.suspend(|| draw(&picture.to_rgb8()));
                }
            }
            _ => {}
        }
    }
}

/// Draws a picture with half-block characters: two pixels a cell, 24-bit colour.
pub fn draw(picture: &RgbImage) {
    let text = half_blocks(picture, PICTURE_COLUMNS);
    // A closed terminal is no reason to fail a run.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn half_blocks(picture: &RgbImage, columns: u32) -> String {
    let (width, height) = picture.dimensions();
    if width == 0 || height == 0 {
        return String::new();
    }
    let columns = columns.min(width);
    let rows = (height * columns / width).max(2) & !1;
    let small = image::imageops::resize(picture, columns, rows, FilterType::Triangle);
    let mut text = String::new();
    for row in (0..rows).step_by(2) {
        for column in 0..columns {
            let [r, g, b] = small.get_pixel(column, row).0;
            let [lower_r, lower_g, lower_b] = small.get_pixel(column, row + 1).0;
            text.push_str(&format!("\x1b[38;2;{r};{g};{b}m\x1b[48;2;{lower_r};{lower_g};{lower_b}m▀"));
        }
        text.push_str("\x1b[0m\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_becomes_half_as_many_rows_of_cells() {
        let picture = RgbImage::from_pixel(64, 64, image::Rgb([255, 0, 0]));
        let text = half_blocks(&picture, 8);
        assert_eq!(text.lines().count(), 4);
        assert_eq!(text.matches('▀').count(), 32);
        assert!(text.contains("38;2;255;0;0"));
    }

    #[test]
    fn an_empty_picture_draws_nothing() {
        assert_eq!(half_blocks(&RgbImage::new(0, 0), 8), "");
    }
}
