//! Taking the photo: the scene seen from a slight angle, in uneven light, with the sensor's noise.

use super::canvas::{Canvas, Rect};
use super::dice::Dice;
use super::truth::Corners;

/// The scene reaches this far beyond each side of the photo's frame, as part of the photo's width.
pub const MARGIN_PART: f32 = 0.03;
/// How far a corner of the photo may be off its place in the scene, as part of the photo's width. Less than
/// [`MARGIN_PART`], so that the photo never sees past the scene.
pub const TILT_PART: f32 = 0.018;

/// A projective map of the plane.
#[derive(Debug, Clone, Copy)]
struct Homography([f64; 9]);

impl Homography {
    /// The map that takes the corners (0,0), (w,0), (w,h), (0,h) to `to`, by Heckbert's closed form.
    fn of_frame(width: f64, height: f64, to: [[f64; 2]; 4]) -> Homography {
        let [[x0, y0], [x1, y1], [x2, y2], [x3, y3]] = to;
        let (sx, sy) = (x0 - x1 + x2 - x3, y0 - y1 + y2 - y3);
        let (dx1, dy1, dx2, dy2) = (x1 - x2, y1 - y2, x3 - x2, y3 - y2);
        let det = dx1 * dy2 - dx2 * dy1;
        let (g, h) = ((sx * dy2 - sy * dx2) / det, (sy * dx1 - sx * dy1) / det);
        let unit = [
            x1 - x0 + g * x1,
            x3 - x0 + h * x3,
            x0,
            y1 - y0 + g * y1,
            y3 - y0 + h * y3,
            y0,
            g,
            h,
            1.0,
        ];
        let [a, b, c, d, e, f, g, h, i] = unit;
        Homography([
            a / width,
            b / height,
            c,
            d / width,
            e / height,
            f,
            g / width,
            h / height,
            i,
        ])
    }

    fn apply(&self, x: f64, y: f64) -> [f64; 2] {
        let [a, b, c, d, e, f, g, h, i] = self.0;
        let depth = g * x + h * y + i;
        [(a * x + b * y + c) / depth, (d * x + e * y + f) / depth]
    }

    /// The way back: the adjugate, which is the inverse up to a factor, and the factor does not matter.
    fn inverse(&self) -> Homography {
        let [a, b, c, d, e, f, g, h, i] = self.0;
        Homography([
            e * i - f * h,
            c * h - b * i,
            b * f - c * e,
            f * g - d * i,
            a * i - c * g,
            c * d - a * f,
            d * h - e * g,
            b * g - a * h,
            a * e - b * d,
        ])
    }
}

/// Where the camera stands and what light there is.
pub struct Camera {
    width: u32,
    height: u32,
    to_scene: Homography,
    to_photo: Homography,
    light: Light,
    /// Steps of brightness for one step of a random byte.
    noise: f32,
}

/// Light over the photo; positions run from −0.5 to 0.5.
struct Light {
    across: f32,
    down: f32,
    corners: f32,
    tint: [f32; 3],
}

impl Light {
    fn at(&self, x: f32, y: f32) -> f32 {
        1.0 + self.across * x + self.down * y - self.corners * (x * x + y * y)
    }
}

impl Camera {
    /// A camera for photos of this size, in pixels.
    pub fn new(dice: &mut Dice, width: u32, height: u32) -> Camera {
        let (w, h) = (f64::from(width), f64::from(height));
        let margin = f64::from(MARGIN_PART) * w;
        let most = TILT_PART * width as f32;
        let to = [[0.0, 0.0], [w, 0.0], [w, h], [0.0, h]]
            .map(|corner| corner.map(|at| at + margin + f64::from(dice.real(-most, most))));
        let to_scene = Homography::of_frame(w, h, to);
        let light = Light {
            across: dice.real(-0.16, 0.16),
            down: dice.real(-0.14, 0.06),
            corners: dice.real(0.05, 0.3),
            tint: [
                dice.real(0.95, 1.05),
                dice.real(0.97, 1.02),
                dice.real(0.92, 1.04),
            ],
        };
        let noise = dice.real(0.007, 0.021);
        Camera {
            width,
            height,
            to_scene,
            to_photo: to_scene.inverse(),
            light,
            noise,
        }
    }

    /// The part of the scene that is in the photo whatever the tilt.
    pub fn always_seen(width: u32, height: u32) -> Rect {
        let off = (MARGIN_PART + TILT_PART) * width as f32;
        let far = (MARGIN_PART - TILT_PART) * width as f32;
        Rect::new(off, off, width as f32 + far, height as f32 + far)
    }

    /// Width and height of the scene that a photo of this size needs, in pixels.
    pub fn scene_size(width: u32, height: u32) -> (usize, usize) {
        let margins = (2.0 * MARGIN_PART * width as f32).ceil() as usize;
        (width as usize + margins, height as usize + margins)
    }

    /// Where a rectangle of the scene is in the photo, to a tenth of a pixel.
    pub fn corners(&self, area: Rect) -> Corners {
        let points = [
            (area.x0, area.y0),
            (area.x1, area.y0),
            (area.x1, area.y1),
            (area.x0, area.y1),
        ];
        points.map(|(x, y)| {
            let [x, y] = self.to_photo.apply(f64::from(x), f64::from(y));
            let tenth = |at: f64, most: u32| ((at * 10.0).round() / 10.0).clamp(0.0, f64::from(most)) as f32;
            [tenth(x, self.width), tenth(y, self.height)]
        })
    }

    /// The photo of `scene`: rows from the top, three bytes a pixel.
    pub fn take(&self, dice: &mut Dice, scene: &Canvas) -> Vec<u8> {
        let (width, height) = (self.width as usize, self.height as usize);
        let mut photo = vec![0; width * height * 3];
        let (across, down) = (1.0 / width as f32, 1.0 / height as f32);
        let view = View::new(&self.to_scene, scene);
        for (y, row) in photo.chunks_exact_mut(width * 3).enumerate() {
            let y = y as f32 + 0.5;
            let mut x = 0.5;
            for pixel in row.chunks_exact_mut(3) {
                let light = self.light.at(x * across - 0.5, y * down - 0.5);
                let seen = view.sample(x, y);
                let grain = self.grain(dice);
                let value = |part: usize| (seen[part] * (light * self.light.tint[part]) + grain[part]) as u8;
                pixel.copy_from_slice(&[value(0), value(1), value(2)]);
                x += 1.0;
            }
        }
        photo
    }

    /// Noise of one pixel: mostly of its brightness, a little of its colour. One random word holds eight bytes; a
    /// sum of four of them is close enough to a bell curve.
    fn grain(&self, dice: &mut Dice) -> [f32; 3] {
        let word = dice.word();
        // Every second byte, summed by the multiplication into the uppermost 16 bits.
        let sum = (word & 0x00FF_00FF_00FF_00FF).wrapping_mul(0x0001_0001_0001_0001) >> 48;
        let common = sum as f32 - 637.5;
        let own = |byte: u32| (common + f32::from((word >> byte) as u8)) * self.noise;
        [own(8), own(24), own(40)]
    }
}

/// A scene as the camera sees it.
struct View<'a> {
    map: [f32; 9],
    pixels: &'a [u8],
    width: usize,
    /// The last pixel that has a right and a lower neighbour.
    last: (f32, f32),
}

impl View<'_> {
    fn new<'a>(to_scene: &Homography, scene: &'a Canvas) -> View<'a> {
        let last = (
            scene.width().saturating_sub(2) as f32,
            scene.height().saturating_sub(2) as f32,
        );
        View {
            map: to_scene.0.map(|part| part as f32),
            pixels: scene.pixels(),
            width: scene.width(),
            last,
        }
    }

    /// The scene at a point of the photo, mixed from the four nearest pixels.
    #[inline(always)]
    fn sample(&self, x: f32, y: f32) -> [f32; 3] {
        let [a, b, c, d, e, f, g, h, i] = self.map;
        let depth = 1.0 / (g * x + h * y + i);
        let sx = ((a * x + b * y + c) * depth - 0.5).clamp(0.0, self.last.0);
        let sy = ((d * x + e * y + f) * depth - 0.5).clamp(0.0, self.last.1);
        let (left, top) = (sx as u32, sy as u32);
        let (right, down) = (sx - left as f32, sy - top as f32);
        let upper = (top as usize * self.width + left as usize) * 3;
        let lower = upper + self.width * 3;
        let (Some(one), Some(two)) = (self.pair(upper), self.pair(lower)) else {
            return [0.0; 3];
        };
        // Written out for the three colours: a loop over them takes twice the time here.
        [
            between(one[0], one[3], two[0], two[3], right, down),
            between(one[1], one[4], two[1], two[4], right, down),
            between(one[2], one[5], two[2], two[5], right, down),
        ]
    }

    /// Two pixels side by side.
    #[inline(always)]
    fn pair(&self, at: usize) -> Option<&[u8; 6]> {
        self.pixels.get(at..)?.first_chunk()
    }
}

#[inline(always)]
fn between(one: u8, right_one: u8, two: u8, right_two: u8, right: f32, down: f32) -> f32 {
    let (one, two) = (f32::from(one), f32::from(two));
    let above = one + (f32::from(right_one) - one) * right;
    let below = two + (f32::from(right_two) - two) * right;
    above + (below - above) * down
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_in_the_scene_is_where_its_box_says() {
        for seed in 0..8 {
            let mut dice = Dice::of_photo(seed, 1);
            let (width, height) = (800, 600);
            let camera = Camera::new(&mut dice, width, height);
            let (sw, sh) = Camera::scene_size(width, height);
            let mut scene = Canvas::new(sw, sh, [0, 0, 0]);
            let mark = Rect::new(300.0, 400.0, 360.0, 430.0);
            scene.fill_flat(mark, [255, 255, 255]);
            let photo = camera.take(&mut dice, &scene);
            let bright: Vec<(f32, f32)> = (0..height as usize)
                .flat_map(|y| (0..width as usize).map(move |x| (x, y)))
                .filter(|(x, y)| photo[(y * width as usize + x) * 3 + 1] > 110)
                .map(|(x, y)| (x as f32 + 0.5, y as f32 + 0.5))
                .collect();
            let count = bright.len() as f32;
            let mean = |of: fn(&(f32, f32)) -> f32| bright.iter().map(of).sum::<f32>() / count;
            let corners = camera.corners(mark);
            let middle = |axis: usize| corners.iter().map(|c| c[axis]).sum::<f32>() / 4.0;
            assert!((mean(|p| p.0) - middle(0)).abs() < 0.6, "seed {seed}: x");
            assert!((mean(|p| p.1) - middle(1)).abs() < 0.6, "seed {seed}: y");
            assert!(
                (1500.0..2100.0).contains(&count),
                "seed {seed}: {count} bright pixels"
            );
        }
    }

    #[test]
    fn what_is_always_seen_is_in_the_photo() {
        for seed in 0..200 {
            let camera = Camera::new(&mut Dice::of_photo(seed, 1), 1600, 1200);
            let seen = Camera::always_seen(1600, 1200);
            for (x, y) in [
                (seen.x0, seen.y0),
                (seen.x1, seen.y0),
                (seen.x1, seen.y1),
                (seen.x0, seen.y1),
            ] {
                let [px, py] = camera.to_photo.apply(f64::from(x), f64::from(y));
                assert!(
                    (0.0..=1600.0).contains(&px) && (0.0..=1200.0).contains(&py),
                    "seed {seed}: {px},{py}"
                );
            }
        }
    }
}
