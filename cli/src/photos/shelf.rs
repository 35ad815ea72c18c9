//! Drawing a planned shelf: back wall, boards, shadows, products, price tags; and noting what was drawn.

use super::canvas::{Canvas, Colour, Rect, colour};
use super::catalogue::Shape;
use super::dice::Dice;
use super::fonts::Fonts;
use super::plan::{Group, Place, Plan, Row, TagLook};
use super::product::{Printed, Product};
use super::truth::WordKind;

/// Size of a price tag in units, at most; a tag is never wider than its group.
const TAG_UNITS: (f32, f32) = (116.0, 48.0);
/// Capital height of a price, in units.
const PRICE_CAP_UNITS: f32 = 25.0;
/// How far the second product of a place shows above the first, in units.
const BEHIND_UNITS: f32 = 9.0;

/// What was drawn, in pixels of the scene.
#[derive(Default)]
pub struct Drawn {
    pub facings: Vec<DrawnFacing>,
    pub prices: Vec<DrawnPrice>,
    pub gaps: Vec<(u32, Rect)>,
    pub words: Vec<Printed>,
}

pub struct DrawnFacing {
    pub brand: &'static str,
    pub variant: Option<&'static str>,
    pub row: u32,
    pub area: Rect,
}

pub struct DrawnPrice {
    pub text: String,
    pub row: u32,
    pub area: Rect,
}

/// The colours of a shop's furniture.
struct Paint {
    wall: Colour,
    back: Colour,
    board: Colour,
    rail: Colour,
}

const PAINTS: [Paint; 4] = [
    Paint {
        wall: colour(0xB9B4AA),
        back: colour(0xA9A9A6),
        board: colour(0xE9E9E6),
        rail: colour(0xD3D6D8),
    },
    Paint {
        wall: colour(0x8D949B),
        back: colour(0x8E949A),
        board: colour(0xC7CBD0),
        rail: colour(0xAEB4BB),
    },
    Paint {
        wall: colour(0xCFC7B8),
        back: colour(0xB59F80),
        board: colour(0xD9C6A4),
        rail: colour(0xE9E4DA),
    },
    Paint {
        wall: colour(0x6E7378),
        back: colour(0x5A5F64),
        board: colour(0x3C4046),
        rail: colour(0x565C63),
    },
];

/// Draws `plan` on a scene of the given size.
pub fn draw(dice: &mut Dice, fonts: &Fonts, plan: &Plan, width: usize, height: usize) -> (Canvas, Drawn) {
    let paint = dice.pick(&PAINTS).unwrap_or(&PAINTS[0]);
    let mut canvas = Canvas::new(width, height, paint.wall);
    let mut drawn = Drawn::default();
    draw_back(&mut canvas, plan, paint);
    for (index, row) in plan.rows.iter().enumerate() {
        draw_floor(&mut canvas, plan, row, paint);
        for group in &row.groups {
            draw_group(
                &mut canvas,
                fonts,
                (plan.unit, index as u32, row),
                group,
                &mut drawn,
            );
        }
        draw_shadow(&mut canvas, plan, row);
        draw_edge(&mut canvas, plan, row, paint);
        for group in &row.groups {
            draw_tag(
                &mut canvas,
                fonts,
                (plan.unit, index as u32, row),
                group,
                &mut drawn,
            );
        }
    }
    draw_posts(&mut canvas, plan, paint);
    (canvas, drawn)
}

fn draw_back(canvas: &mut Canvas, plan: &Plan, paint: &Paint) {
    let inside = plan.inside;
    canvas.fill_flat(inside, paint.back);
    let step = 62.0 * plan.unit;
    let mut x = inside.x0 + step / 2.0;
    while x < inside.x1 {
        canvas.fill(
            Rect::new(x, inside.y0, x + 2.0 * plan.unit, inside.y1),
            0.22,
            |_| [0, 0, 0],
        );
        x += step;
    }
    // It is dark at the back of a shelf, darkest below a board.
    for row in &plan.rows {
        canvas.darken(Rect::new(inside.x0, row.top, inside.x1, row.floor), |down| {
            0.34 + 0.22 * down
        });
    }
}

/// The upper side of the board, on which the products stand, in slight view from above.
fn draw_floor(canvas: &mut Canvas, plan: &Plan, row: &Row, paint: &Paint) {
    let depth = 16.0 * plan.unit;
    let floor = Rect::new(plan.inside.x0, row.floor - depth, plan.inside.x1, row.floor);
    canvas.fill_flat(floor, paint.board);
    canvas.darken(floor, |down| 0.4 + 0.42 * down);
}

fn draw_group(
    canvas: &mut Canvas,
    fonts: &Fonts,
    (unit, index, row): (f32, u32, &Row),
    group: &Group,
    drawn: &mut Drawn,
) {
    for place in &group.places {
        let area = area_of(row, group, place);
        if !place.filled {
            drawn.gaps.push((index, area));
            continue;
        }
        let mut product = Product {
            brand: group.brand,
            variant: group.variant,
            cap: group.cap,
            area,
            unit,
        };
        let up = BEHIND_UNITS * unit;
        product.area = Rect::new(area.x0 + unit, area.y0 - up, area.x1 - unit, area.y1 - up);
        product.paint_pack(canvas, 0.42);
        product.area = area;
        draw_contact(canvas, area, shoulder_of(group.brand.shape), unit);
        product.paint_pack(canvas, 1.0);
        drawn.words.extend(product.paint_print(canvas, fonts));
        let variant = group.variant.map(|v| v.word);
        drawn.facings.push(DrawnFacing {
            brand: group.brand.name,
            variant,
            row: index,
            area,
        });
    }
}

fn area_of(row: &Row, group: &Group, place: &Place) -> Rect {
    let bottom = row.floor - place.back;
    Rect::new(
        place.left,
        bottom - group.height,
        place.left + group.width,
        bottom,
    )
}

/// From where down a product is as wide as it gets.
fn shoulder_of(shape: Shape) -> f32 {
    match shape {
        Shape::Bottle => 0.38,
        Shape::Jar => 0.3,
        _ => 0.15,
    }
}

/// The shadow of a product on the board and on its neighbours.
fn draw_contact(canvas: &mut Canvas, area: Rect, shoulder: f32, unit: f32) {
    let (wide, low) = (4.0 * unit, 5.0 * unit);
    canvas.darken(
        Rect::new(area.x0 - wide, area.down(shoulder), area.x1 + wide, area.y1),
        |_| 0.72,
    );
    canvas.darken(
        Rect::new(area.x0 - wide / 2.0, area.y1, area.x1 + wide / 2.0, area.y1 + low),
        |down| 0.45 + 0.5 * down,
    );
}

/// What the board above, or the lamp's angle, takes from a row's light.
fn draw_shadow(canvas: &mut Canvas, plan: &Plan, row: &Row) {
    let deep = (row.floor - row.top) * 0.3;
    canvas.darken(
        Rect::new(plan.inside.x0, row.top, plan.inside.x1, row.top + deep),
        |down| 0.62 + 0.38 * down,
    );
}

fn draw_edge(canvas: &mut Canvas, plan: &Plan, row: &Row, paint: &Paint) {
    let (inside, unit) = (plan.inside, plan.unit);
    let edge = Rect::new(inside.x0, row.floor, inside.x1, row.bottom);
    canvas.fill_flat(edge, paint.board);
    canvas.darken(edge, |down| 1.0 - 0.16 * down);
    let rail = Rect::new(
        inside.x0,
        row.floor + 3.0 * unit,
        inside.x1,
        row.bottom - 3.0 * unit,
    );
    canvas.fill_flat(rail, paint.rail);
    canvas.fill(
        Rect::new(inside.x0, row.floor, inside.x1, row.floor + 2.0 * unit),
        0.5,
        |_| [255, 255, 255],
    );
    canvas.fill(
        Rect::new(inside.x0, rail.y1, inside.x1, rail.y1 + 1.5 * unit),
        0.5,
        |_| [0, 0, 0],
    );
}

fn draw_tag(
    canvas: &mut Canvas,
    fonts: &Fonts,
    (unit, index, row): (f32, u32, &Row),
    group: &Group,
    drawn: &mut Drawn,
) {
    let (left, right) = group.extent();
    let half = TAG_UNITS.0.min((right - left) / unit - 4.0) / 2.0 * unit;
    let (x, y) = ((left + right) / 2.0, (row.floor + row.bottom) / 2.0);
    let tag = Rect::new(
        x - half,
        y - TAG_UNITS.1 / 2.0 * unit,
        x + half,
        y + TAG_UNITS.1 / 2.0 * unit,
    );
    let (paper, ink): (Colour, Colour) = match group.tag.look {
        TagLook::White => ([250, 250, 247], [22, 22, 24]),
        TagLook::Yellow => ([255, 221, 51], [20, 18, 10]),
        TagLook::Red => ([200, 22, 30], [255, 255, 255]),
    };
    let shadow = Rect::new(
        tag.x0 + unit,
        tag.y0 + 2.0 * unit,
        tag.x1 + 2.0 * unit,
        tag.y1 + 2.0 * unit,
    );
    canvas.darken(shadow, |_| 0.6);
    canvas.fill_flat(tag, paper);
    draw_small_print(canvas, tag, ink, unit);
    let cap = fonts.fit(
        group.tag.face,
        &group.tag.price,
        PRICE_CAP_UNITS * unit,
        tag.width() - 12.0 * unit,
    );
    let set = (group.tag.face, group.tag.price.as_str(), cap);
    if let Some(ink) = fonts.print(canvas, set, (x, tag.down(0.6)), ink) {
        let text = group.tag.price.clone();
        drawn.prices.push(DrawnPrice {
            text: text.clone(),
            row: index,
            area: tag,
        });
        drawn.words.push(Printed {
            kind: WordKind::Price,
            text,
            face: group.tag.face,
            ink,
        });
    }
}

/// The name on a tag, too small to read.
fn draw_small_print(canvas: &mut Canvas, tag: Rect, ink: Colour, unit: f32) {
    let mut x = tag.x0 + 6.0 * unit;
    for (index, word) in [22.0_f32, 13.0, 29.0, 9.0].into_iter().enumerate() {
        let end = (x + word * unit).min(tag.x1 - 6.0 * unit);
        let y = tag.y0 + 5.0 * unit;
        canvas.fill(
            Rect::new(x, y, end, y + 3.0 * unit),
            0.35 + 0.05 * index as f32,
            |_| ink,
        );
        x = end + 4.0 * unit;
    }
}

/// The uprights that hold the boards.
fn draw_posts(canvas: &mut Canvas, plan: &Plan, paint: &Paint) {
    let (inside, wide) = (plan.inside, 26.0 * plan.unit);
    let bottom = canvas.height() as f32;
    for x in [inside.x0 - wide, inside.x1] {
        let post = Rect::new(x, 0.0, x + wide, bottom);
        canvas.fill_flat(post, paint.rail);
        canvas.darken(Rect::new(x, 0.0, x + wide * 0.2, bottom), |_| 0.8);
        canvas.darken(Rect::new(x + wide * 0.8, 0.0, x + wide, bottom), |_| 0.7);
        let step = 24.0 * plan.unit;
        let mut y = step;
        while y < bottom {
            let slot = Rect::new(x + wide * 0.42, y, x + wide * 0.58, y + step * 0.5);
            canvas.darken(slot, |_| 0.3);
            y += step;
        }
    }
}
