//! A picture in memory and the few ways of putting colour on it. Lengths are pixels; x runs right, y runs down;
//! everything outside the picture is left out.

/// Red, green, blue.
pub type Colour = [u8; 3];

/// `0xRRGGBB` as a colour.
pub const fn colour(hex: u32) -> Colour {
    [(hex >> 16) as u8, (hex >> 8) as u8, hex as u8]
}

/// `colour` made brighter (`gain` above 1) or darker (below 1).
pub fn lit(colour: Colour, gain: f32) -> Colour {
    let part = |part: u8| (f32::from(part) * gain) as u8;
    [part(colour[0]), part(colour[1]), part(colour[2])]
}

/// How bright a colour looks, 0 to 255.
#[cfg(test)]
pub fn brightness(colour: Colour) -> u32 {
    (u32::from(colour[0]) * 299 + u32::from(colour[1]) * 587 + u32::from(colour[2]) * 114) / 1000
}

/// An upright rectangle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    pub x0: f32,
    pub y0: f32,
    pub x1: f32,
    pub y1: f32,
}

impl Rect {
    /// The rectangle between two corners.
    pub const fn new(x0: f32, y0: f32, x1: f32, y1: f32) -> Rect {
        Rect { x0, y0, x1, y1 }
    }

    pub fn width(&self) -> f32 {
        self.x1 - self.x0
    }

    pub fn height(&self) -> f32 {
        self.y1 - self.y0
    }

    pub fn centre_x(&self) -> f32 {
        (self.x0 + self.x1) / 2.0
    }

    /// The y at `part` of the height: 0 is the top, 1 the bottom.
    pub fn down(&self, part: f32) -> f32 {
        self.y0 + self.height() * part
    }

    /// The smallest rectangle round both.
    pub fn union(self, other: Rect) -> Rect {
        Rect {
            x0: self.x0.min(other.x0),
            y0: self.y0.min(other.y0),
            x1: self.x1.max(other.x1),
            y1: self.y1.max(other.y1),
        }
    }
}

/// A picture of 8-bit RGB pixels.
#[derive(Debug, Clone)]
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    /// A picture of one colour. Sizes are checked by the caller ([`super::render`]).
    pub fn new(width: usize, height: usize, colour: Colour) -> Canvas {
        Canvas {
            width,
            height,
            pixels: colour.repeat(width * height),
        }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn height(&self) -> usize {
        self.height
    }

    /// Rows from the top, three bytes a pixel.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Mixes `colour` into one pixel; `cover` 0 leaves it, 1 replaces it.
    pub fn mix(&mut self, x: i32, y: i32, colour: Colour, cover: f32) {
        if x < 0 || y < 0 || x as usize >= self.width || y as usize >= self.height {
            return;
        }
        let at = (y as usize * self.width + x as usize) * 3;
        if let Some(pixel) = self.pixels.get_mut(at..at + 3) {
            blend(pixel, colour, cover);
        }
    }

    /// One line of pixels from `x0` to `x1` at row `y`; the ends are mixed in by how much of them is covered.
    /// `paint` gives the colour by the pixel's centre.
    pub fn span(&mut self, y: i32, x0: f32, x1: f32, cover: f32, mut paint: impl FnMut(f32) -> Colour) {
        let (x0, x1) = (x0.max(0.0), x1.min(self.width as f32));
        if y < 0 || y as usize >= self.height || x0 >= x1 {
            return;
        }
        let (first, end) = (x0.floor(), x1.ceil());
        let row = y as usize * self.width;
        let Some(line) = self
            .pixels
            .get_mut((row + first as usize) * 3..(row + end as usize) * 3)
        else {
            return;
        };
        let mut left = first;
        for pixel in line.chunks_exact_mut(3) {
            let part = x1.min(left + 1.0) - x0.max(left);
            blend(pixel, paint(left + 0.5), part * cover);
            left += 1.0;
        }
    }

    /// A filled rectangle whose colour may change from top (0) to bottom (1).
    pub fn fill(&mut self, area: Rect, cover: f32, paint: impl Fn(f32) -> Colour) {
        self.rows(area, |canvas, y, part, down| {
            let colour = paint(down);
            canvas.span(y, area.x0, area.x1, part * cover, |_| colour);
        });
    }

    /// A filled rectangle of one colour.
    pub fn fill_flat(&mut self, area: Rect, colour: Colour) {
        self.fill(area, 1.0, |_| colour);
    }

    /// Calls `draw` for each row of pixels of `area` with (row, how much of it is covered, 0 top … 1 bottom).
    pub fn rows(&mut self, area: Rect, mut draw: impl FnMut(&mut Canvas, i32, f32, f32)) {
        let first = area.y0.max(0.0).floor() as i32;
        let end = area.y1.min(self.height as f32).ceil() as i32;
        let height = area.height().max(0.01);
        for y in first..end {
            let top = y as f32;
            let part = (area.y1.min(top + 1.0) - area.y0.max(top)).clamp(0.0, 1.0);
            let down = ((top + 0.5 - area.y0) / height).clamp(0.0, 1.0);
            draw(self, y, part, down);
        }
    }

    /// Darkens a rectangle; `gain` says how much light is left, from its top (0) to its bottom (1).
    pub fn darken(&mut self, area: Rect, gain: impl Fn(f32) -> f32) {
        self.fill_with_shadow(area, |down| 1.0 - gain(down));
    }

    fn fill_with_shadow(&mut self, area: Rect, depth: impl Fn(f32) -> f32) {
        self.rows(area, |canvas, y, part, down| {
            canvas.span(y, area.x0, area.x1, part * depth(down), |_| [0, 0, 0]);
        });
    }

    /// A filled ellipse that touches the sides of `area`.
    pub fn ellipse(&mut self, area: Rect, colour: Colour, cover: f32) {
        let half = area.width() / 2.0;
        self.rows(area, |canvas, y, part, down| {
            let away = down * 2.0 - 1.0;
            let reach = half * (1.0 - away * away).max(0.0).sqrt();
            canvas.span(
                y,
                area.centre_x() - reach,
                area.centre_x() + reach,
                part * cover,
                |_| colour,
            );
        });
    }
}

#[inline(always)]
fn blend(pixel: &mut [u8], colour: Colour, cover: f32) {
    if cover >= 1.0 {
        pixel.copy_from_slice(&colour);
        return;
    }
    let cover = cover.max(0.0);
    for (part, new) in pixel.iter_mut().zip(colour) {
        let old = f32::from(*part);
        *part = (old + (f32::from(new) - old) * cover) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_mixed_by_cover_and_the_outside_is_left_out() {
        let mut canvas = Canvas::new(4, 4, [0, 0, 0]);
        canvas.fill_flat(Rect::new(1.5, 1.0, 9.0, 2.0), [200, 100, 0]);
        let row = &canvas.pixels()[12..24];
        assert_eq!(row[0..3], [0, 0, 0]);
        assert_eq!(row[3..6], [100, 50, 0]);
        assert_eq!(row[9..12], [200, 100, 0]);
        assert!(canvas.pixels()[24..].iter().all(|p| *p == 0));
        canvas.mix(-1, 0, [9, 9, 9], 1.0);
        canvas.mix(0, 4, [9, 9, 9], 1.0);
        assert_eq!(canvas.pixels()[0..3], [0, 0, 0]);
    }
}
