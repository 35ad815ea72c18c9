//! Rectangles of any direction round regions of text.

use image::RgbImage;
use imageproc::geometric_transformations::{Border, Interpolation, Projection, warp_into};

use crate::recognise::photo::MAX_SIDE;

/// A line that is this many times as high as it is wide stands on its side.
const UPRIGHT_RATIO: f32 = 1.5;

/// A rectangle of any direction: corners clockwise from the one that is top left when it is not turned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rectangle {
    centre: (f32, f32),
    /// Unit vector along its width; the one along its height is this turned clockwise on the screen.
    along: (f32, f32),
    half_width: f32,
    half_height: f32,
}

impl Rectangle {
    /// The smallest rectangle, by area, round these points. `None` for no points.
    pub fn round(points: &[(i32, i32)]) -> Option<Self> {
        let hull = convex_hull(points);
        let first = *hull.first()?;
        let mut best: Option<(f32, Self)> = None;
        for (i, from) in hull.iter().enumerate() {
            let to = hull.get(i + 1).copied().unwrap_or(first);
            let (dx, dy) = ((to.0 - from.0) as f32, (to.1 - from.1) as f32);
            let length = dx.hypot(dy);
            let along = if length > 0.0 {
                (dx / length, dy / length)
            } else {
                (1.0, 0.0)
            };
            let candidate = Self::round_along(&hull, along);
            let area = candidate.half_width * candidate.half_height;
            if best.as_ref().is_none_or(|(least, _)| area < *least) {
                best = Some((area, candidate));
            }
        }
        best.map(|(_, rectangle)| rectangle)
    }

    fn round_along(points: &[(i32, i32)], mut along: (f32, f32)) -> Self {
        // Of the four directions of a rectangle's sides, the one that is nearest to a line of text.
        if along.0.abs() < along.1.abs() {
            along = (along.1, -along.0);
        }
        if along.0 < 0.0 {
            along = (-along.0, -along.1);
        }
        let (mut left, mut right, mut top, mut bottom) = (f32::MAX, f32::MIN, f32::MAX, f32::MIN);
        for (x, y) in points.iter().map(|(x, y)| (*x as f32, *y as f32)) {
            let (u, v) = (x * along.0 + y * along.1, y * along.0 - x * along.1);
            (left, right, top, bottom) = (left.min(u), right.max(u), top.min(v), bottom.max(v));
        }
        let (u, v) = ((left + right) / 2.0, (top + bottom) / 2.0);
        Self {
            centre: (u * along.0 - v * along.1, u * along.1 + v * along.0),
            along,
            half_width: (right - left) / 2.0,
            half_height: (bottom - top) / 2.0,
        }
    }

    /// The shorter of its sides.
    pub fn shorter_side(&self) -> f32 {
        2.0 * self.half_width.min(self.half_height)
    }

    /// Its height.
    pub fn height(&self) -> f32 {
        2.0 * self.half_height
    }

    /// Its centre.
    pub fn centre(&self) -> (f32, f32) {
        self.centre
    }

    /// Grown on each side by its area × `ratio` ÷ its circumference.
    pub fn grown(&self, ratio: f32) -> Self {
        let around = 4.0 * (self.half_width + self.half_height);
        let by = if around > 0.0 {
            4.0 * self.half_width * self.half_height * ratio / around
        } else {
            0.0
        };
        Self {
            half_width: self.half_width + by,
            half_height: self.half_height + by,
            ..*self
        }
    }

    /// The same place on a picture of another size.
    pub fn scaled(&self, x: f32, y: f32) -> Self {
        let along = (self.along.0 * x, self.along.1 * y);
        let across = (-self.along.1 * x, self.along.0 * y);
        let length = along.0.hypot(along.1);
        Self {
            centre: (self.centre.0 * x, self.centre.1 * y),
            along: (along.0 / length, along.1 / length),
            half_width: self.half_width * length,
            half_height: self.half_height * across.0.hypot(across.1),
        }
    }

    /// Its corners, clockwise from the top left one.
    pub fn corners(&self) -> [(f32, f32); 4] {
        let (u, v) = (self.along, (-self.along.1, self.along.0));
        let corner = |right: f32, down: f32| {
            let (a, b) = (right * self.half_width, down * self.half_height);
            (
                self.centre.0 + a * u.0 + b * v.0,
                self.centre.1 + a * u.1 + b * v.1,
            )
        };
        [
            corner(-1.0, -1.0),
            corner(1.0, -1.0),
            corner(1.0, 1.0),
            corner(-1.0, 1.0),
        ]
    }

    /// The mean of `map` (rows of `width`) over the pixels inside; 0 if there are none.
    pub fn mean(&self, map: &[f32], width: usize) -> f32 {
        let height = map.len() / width.max(1);
        let corners = self.corners();
        let span = |values: [f32; 4], most: usize| {
            let least = values.iter().copied().fold(f32::MAX, f32::min).floor().max(0.0) as usize;
            let end = values.iter().copied().fold(f32::MIN, f32::max).ceil().max(0.0) as usize;
            least..(end + 1).min(most)
        };
        let (mut sum, mut count) = (0.0_f64, 0_u32);
        for y in span(corners.map(|corner| corner.1), height) {
            for x in span(corners.map(|corner| corner.0), width) {
                let (dx, dy) = (x as f32 - self.centre.0, y as f32 - self.centre.1);
                let (u, v) = (
                    dx * self.along.0 + dy * self.along.1,
                    dy * self.along.0 - dx * self.along.1,
                );
                // Half a pixel more: its border runs through the centres of the outermost pixels.
                if u.abs() <= self.half_width + 0.5 && v.abs() <= self.half_height + 0.5 {
                    sum += f64::from(map[y * width + x]);
                    count += 1;
                }
            }
        }
        if count == 0 {
            0.0
        } else {
            (sum / f64::from(count)) as f32
        }
    }

    /// What the photo shows inside, upright. A line that stands on its side is taken to be read from the top
    /// down, and laid down.
    pub fn cut_out(&self, photo: &RgbImage) -> RgbImage {
        let side = |half: f32| (2.0 * half).round().clamp(1.0, 2.0 * MAX_SIDE as f32) as u32;
        let (width, height) = (side(self.half_width), side(self.half_height));
        let mut line = RgbImage::new(width, height);
        let (right, bottom) = (width as f32, height as f32);
        let to = [(0.0, 0.0), (right, 0.0), (right, bottom), (0.0, bottom)];
        if let Some(projection) = Projection::from_control_points(self.corners(), to) {
            warp_into(
                photo,
                projection,
                Interpolation::Bilinear,
                Border::Replicate,
                &mut line,
            );
        }
        if bottom >= right * UPRIGHT_RATIO {
            image::imageops::rotate270(&line)
        } else {
            line
        }
    }
}

/// The corners of the smallest convex polygon round the points, in order.
fn convex_hull(points: &[(i32, i32)]) -> Vec<(i32, i32)> {
    let mut points = points.to_vec();
    points.sort_unstable();
    points.dedup();
    if points.len() < 3 {
        return points;
    }
    let turns_left = |a: (i32, i32), b: (i32, i32), c: (i32, i32)| {
        let cross = |x: i32, y: i32| i64::from(x) * i64::from(y);
        cross(b.0 - a.0, c.1 - a.1) > cross(b.1 - a.1, c.0 - a.0)
    };
    let half = |points: &mut dyn Iterator<Item = (i32, i32)>| {
        let mut chain: Vec<(i32, i32)> = Vec::new();
        for point in points {
            while let [.., a, b] = chain[..] {
                if turns_left(a, b, point) {
                    break;
                }
                chain.pop();
            }
            chain.push(point);
        }
        // The last is the first of the other half.
        chain.pop();
        chain
    };
    let mut hull = half(&mut points.iter().copied());
    hull.extend(half(&mut points.iter().rev().copied()));
    hull
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn near(found: [(f32, f32); 4], expected: [(f32, f32); 4]) {
        for (found, expected) in found.iter().zip(expected) {
            let off = (found.0 - expected.0).hypot(found.1 - expected.1);
            assert!(off < 0.01, "{found:?} is not {expected:?}");
        }
    }

    #[test]
    fn a_hull_keeps_only_the_corners() {
        let points = [(0, 0), (2, 0), (4, 0), (4, 4), (0, 4), (2, 2), (0, 0), (4, 2)];
        assert_eq!(convex_hull(&points), [(0, 0), (4, 0), (4, 4), (0, 4)]);
        assert_eq!(convex_hull(&[(3, 3), (3, 3)]), [(3, 3)]);
        assert_eq!(convex_hull(&[(0, 0), (5, 5), (2, 2)]).len(), 2);
    }

    #[test]
    fn the_smallest_rectangle_is_found_upright_and_turned() {
        let upright = Rectangle::round(&[(1, 2), (11, 2), (11, 6), (1, 6), (5, 4)]).unwrap();
        near(
            upright.corners(),
            [(1.0, 2.0), (11.0, 2.0), (11.0, 6.0), (1.0, 6.0)],
        );
        assert_eq!(upright.shorter_side(), 4.0);
        let turned = Rectangle::round(&[(7, 14), (15, 20), (10, 10), (18, 16)]).unwrap();
        near(
            turned.corners(),
            [(10.0, 10.0), (18.0, 16.0), (15.0, 20.0), (7.0, 14.0)],
        );
        assert!(Rectangle::round(&[]).is_none());
        assert_eq!(Rectangle::round(&[(5, 5)]).unwrap().shorter_side(), 0.0);
        assert_eq!(Rectangle::round(&[(5, 5), (9, 5)]).unwrap().shorter_side(), 0.0);
    }

    #[test]
    fn growing_and_scaling_are_exact_for_rectangles() {
        let rectangle = Rectangle::round(&[(10, 10), (30, 10), (30, 20), (10, 20)]).unwrap();
        // 20 × 10 × 1.5 ÷ 60 = 5 on each side.
        near(
            rectangle.grown(1.5).corners(),
            [(5.0, 5.0), (35.0, 5.0), (35.0, 25.0), (5.0, 25.0)],
        );
        near(
            rectangle.scaled(2.0, 3.0).corners(),
            [(20.0, 30.0), (60.0, 30.0), (60.0, 60.0), (20.0, 60.0)],
        );
    }

    #[test]
    fn the_mean_is_over_the_pixels_inside() {
        let mut map = vec![0.0; 10 * 8];
        for y in 2..5 {
            map[y * 10 + 3..y * 10 + 7].fill(0.5);
        }
        assert_eq!(
            Rectangle::round(&[(3, 2), (6, 2), (6, 4), (3, 4)])
                .unwrap()
                .mean(&map, 10),
            0.5
        );
        let wider = Rectangle::round(&[(3, 2), (10, 2), (10, 4), (3, 4)])
            .unwrap()
            .mean(&map, 10);
        assert!((wider - 0.5 * 4.0 / 7.0).abs() < 1e-6, "{wider}");
        assert_eq!(Rectangle::round(&[(100, 100)]).unwrap().mean(&map, 10), 0.0);
    }

    #[test]
    fn a_line_is_cut_out_and_laid_down() {
        let photo = RgbImage::from_fn(40, 40, |x, y| Rgb([x as u8, y as u8, 0]));
        let line = Rectangle::round(&[(10, 20), (30, 20), (30, 28), (10, 28)])
            .unwrap()
            .cut_out(&photo);
        assert_eq!(
            (line.dimensions(), line.get_pixel(5, 3).0),
            ((20, 8), [15, 23, 0])
        );
        let standing = Rectangle::round(&[(10, 4), (18, 4), (18, 34), (10, 34)])
            .unwrap()
            .cut_out(&photo);
        // The left end of the line is the top on the photo.
        assert_eq!(
            (
                standing.dimensions(),
                standing.get_pixel(1, 4)[1],
                standing.get_pixel(28, 4)[1]
            ),
            ((30, 8), 5, 32)
        );
    }
}
