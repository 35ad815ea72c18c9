//! What stands where: the shelf of one photo, decided before anything is drawn. Lengths are pixels of the scene,
//! which is the shelf seen straight on.

use super::canvas::Rect;
use super::catalogue::{BRANDS, Brand, Shape, Variant, variants};
use super::dice::Dice;
use super::fonts::{Face, Fonts};

/// The width at which one unit of length is one pixel; everything scales with the photo's width.
pub const UNIT_WIDTH: f32 = 1600.0;
/// Mean height of a row with its board, in units, that the number of rows aims at.
const ROW_UNITS: f32 = 290.0;
/// Height of a board's front edge, which carries the price tags, in units.
const EDGE_UNITS: f32 = 56.0;
/// Least free space above the tallest product, in units.
const HEADROOM_UNITS: f32 = 20.0;
/// Capital height of a brand, in units: the least is what a reader needs at the default size.
const BRAND_CAP_UNITS: (f32, f32) = (26.0, 44.0);
/// Space between two products of a group, in units.
const BETWEEN_UNITS: f32 = 4.0;
/// Per cent of places that are empty, and of groups that are sold out.
const EMPTY_PERCENT: (u32, u32) = (5, 3);
/// Brands tried at the end of a row before the rest of it is left as space.
const TRIES_TO_FILL: u32 = 6;
/// Most rows of a shelf.
const MAX_ROWS: f32 = 16.0;

/// The shelf of one photo.
pub struct Plan {
    pub unit: f32,
    pub inside: Rect,
    pub rows: Vec<Row>,
}

/// One board and what stands on it.
pub struct Row {
    /// Where the row begins: the board above, or the top of the shelf.
    pub top: f32,
    /// Where the products stand; the board's front edge begins here.
    pub floor: f32,
    /// Where the board's front edge ends.
    pub bottom: f32,
    pub groups: Vec<Group>,
}

/// Facings of one product next to each other.
pub struct Group {
    pub brand: &'static Brand,
    pub variant: Option<&'static Variant>,
    /// Capital height of the brand, pixels.
    pub cap: f32,
    /// Size of one product, pixels.
    pub width: f32,
    pub height: f32,
    pub places: Vec<Place>,
    pub tag: Tag,
}

/// Where one product stands, or should.
pub struct Place {
    pub left: f32,
    /// How far the product stands behind the front edge, seen as pixels above the floor.
    pub back: f32,
    pub filled: bool,
}

/// A price tag.
pub struct Tag {
    pub price: String,
    pub face: Face,
    pub look: TagLook,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TagLook {
    White,
    Yellow,
    Red,
}

impl Group {
    /// From the first product's left side to the last one's right side.
    pub fn extent(&self) -> (f32, f32) {
        let left = self.places.first().map_or(0.0, |p| p.left);
        let right = self.places.last().map_or(0.0, |p| p.left) + self.width;
        (left, right)
    }
}

/// Width in units (least, most), height as part of the row's room (least, most).
fn size_of(shape: Shape) -> ((f32, f32), (f32, f32)) {
    match shape {
        Shape::Box => ((128.0, 184.0), (0.8, 1.0)),
        Shape::Bottle => ((92.0, 116.0), (0.94, 1.0)),
        Shape::Can => ((92.0, 116.0), (0.92, 1.0)),
        Shape::Gable => ((104.0, 132.0), (0.88, 1.0)),
        Shape::Jar => ((100.0, 128.0), (0.88, 1.0)),
        Shape::Pouch => ((138.0, 180.0), (0.82, 0.98)),
    }
}

/// How much of a product's width its brand may take.
pub fn label_part(shape: Shape) -> f32 {
    match shape {
        Shape::Box | Shape::Gable => 0.88,
        Shape::Pouch => 0.84,
        Shape::Bottle | Shape::Can | Shape::Jar => 0.86,
    }
}

/// Decides one photo's shelf inside `inside`; `unit` is pixels per unit of length.
pub fn plan(dice: &mut Dice, fonts: &Fonts, inside: Rect, unit: f32) -> Plan {
    let mut stock = Stock::new(dice);
    let count = (inside.height() / (ROW_UNITS * unit))
        .round()
        .clamp(1.0, MAX_ROWS);
    let pairs: Vec<[Shape; 2]> = (0..count as usize)
        .map(|row| stock.pairs[row % stock.pairs.len()])
        .collect();
    let all: f32 = pairs.iter().map(|pair| height_of(*pair)).sum();
    let mut rows = Vec::with_capacity(pairs.len());
    let mut top = inside.y0;
    for pair in pairs {
        let bottom = top + inside.height() * height_of(pair) / all;
        let floor = bottom - EDGE_UNITS * unit;
        let room = floor - top - HEADROOM_UNITS * unit;
        let groups = fill_row(dice, fonts, &mut stock, pair, (inside.x0, inside.x1), room, unit);
        rows.push(Row {
            top,
            floor,
            bottom,
            groups,
        });
        top = bottom;
    }
    Plan { unit, inside, rows }
}

/// What stands together in a row: tall with tall, low with low.
const PAIRS: [[Shape; 2]; 5] = [
    [Shape::Bottle, Shape::Gable],
    [Shape::Box, Shape::Pouch],
    [Shape::Can, Shape::Jar],
    [Shape::Bottle, Shape::Box],
    [Shape::Pouch, Shape::Gable],
];

/// Height of a row against the others'.
fn height_of(pair: [Shape; 2]) -> f32 {
    match pair {
        [Shape::Bottle, _] => 1.14,
        [Shape::Can, _] => 0.74,
        _ => 1.0,
    }
}

/// The brands in the order in which this shop puts them on the shelf.
struct Stock {
    pairs: [[Shape; 2]; 5],
    brands: Vec<&'static Brand>,
    decimal: char,
    tag_face: Face,
}

impl Stock {
    fn new(dice: &mut Dice) -> Stock {
        let mut pairs = PAIRS;
        dice.shuffle(&mut pairs);
        let mut brands: Vec<&'static Brand> = BRANDS.iter().collect();
        dice.shuffle(&mut brands);
        let tag_face = dice
            .pick(&[Face::Sans, Face::Condensed, Face::Wide])
            .copied()
            .unwrap_or(Face::Sans);
        let decimal = if dice.chance(50) { ',' } else { '.' };
        Stock {
            pairs,
            brands,
            decimal,
            tag_face,
        }
    }

    /// The brand of this shape that has waited longest; it goes to the back of the queue.
    fn next_brand(&mut self, shape: Shape) -> Option<&'static Brand> {
        let at = self.brands.iter().position(|b| b.shape == shape)?;
        let brand = self.brands.remove(at);
        self.brands.push(brand);
        Some(brand)
    }
}

fn fill_row(
    dice: &mut Dice,
    fonts: &Fonts,
    stock: &mut Stock,
    shapes: [Shape; 2],
    (left, right): (f32, f32),
    room: f32,
    unit: f32,
) -> Vec<Group> {
    let between = BETWEEN_UNITS * unit;
    let mut groups: Vec<Group> = Vec::new();
    let mut at = left + between;
    let mut misses = 0;
    // The first half of a row holds one shape, the second half the other.
    while misses < TRIES_TO_FILL {
        let late = at - left > (right - left) * 0.5 || misses > 2;
        let shape = shapes[usize::from(late)];
        let Some(brand) = stock.next_brand(shape) else {
            break;
        };
        let group = new_group(dice, fonts, stock, brand, room, unit);
        let step = group.width + between;
        let fits = ((right - at) / step).floor().max(0.0) as u32;
        let wanted = if dice.chance(12) { 1 } else { dice.between(2, 5) };
        if fits == 0 {
            misses += 1;
            continue;
        }
        at = push_group(dice, &mut groups, group, (at, step), wanted.min(fits), unit);
    }
    spread(&mut groups, right - at);
    groups
}

/// Gives `group` its places from `at` on; where the next group may begin.
fn push_group(
    dice: &mut Dice,
    groups: &mut Vec<Group>,
    mut group: Group,
    (at, step): (f32, f32),
    count: u32,
    unit: f32,
) -> f32 {
    let sold_out = dice.chance(EMPTY_PERCENT.1);
    for index in 0..count {
        let filled = !sold_out && !dice.chance(EMPTY_PERCENT.0);
        let left = at + step * index as f32;
        group.places.push(Place {
            left,
            back: dice.real(0.0, 5.0) * unit,
            filled,
        });
    }
    groups.push(group);
    at + step * count as f32
}

/// Spreads the space left at the end of a row over the spaces between its groups.
fn spread(groups: &mut [Group], rest: f32) {
    let share = rest.max(0.0) / (groups.len() + 1) as f32;
    for (index, group) in groups.iter_mut().enumerate() {
        for place in &mut group.places {
            place.left += share * (index + 1) as f32;
        }
    }
}

fn new_group(
    dice: &mut Dice,
    fonts: &Fonts,
    stock: &Stock,
    brand: &'static Brand,
    room: f32,
    unit: f32,
) -> Group {
    let ((least, most), (low, high)) = size_of(brand.shape);
    let part = label_part(brand.shape);
    let mut width = dice.real(least, most) * unit;
    let wanted = dice.real(BRAND_CAP_UNITS.0, BRAND_CAP_UNITS.1) * unit;
    let mut cap = fonts.fit(brand.face, brand.name, wanted, width * part);
    if cap < BRAND_CAP_UNITS.0 * unit {
        cap = BRAND_CAP_UNITS.0 * unit;
        width = fonts.width(brand.face, brand.name, cap) / part;
    }
    let height = room * dice.real(low, high);
    let variant = if dice.chance(75) {
        dice.pick(variants(brand.shape))
    } else {
        None
    };
    Group {
        brand,
        variant,
        cap,
        width,
        height,
        places: Vec::new(),
        tag: new_tag(dice, stock),
    }
}

fn new_tag(dice: &mut Dice, stock: &Stock) -> Tag {
    let whole = if dice.chance(25) {
        dice.between(10, 29)
    } else {
        dice.between(0, 9)
    };
    let cents: &[u32] = if whole == 0 {
        &[59, 79, 85, 95, 99]
    } else {
        &[90, 99, 50, 25, 75, 49, 95, 19, 79, 35]
    };
    let cents = dice.pick(cents).copied().unwrap_or(0);
    let look = match dice.below(10) {
        0 => TagLook::Red,
        1 | 2 => TagLook::Yellow,
        _ => TagLook::White,
    };
    Tag {
        price: format!("{whole}{}{cents:02}", stock.decimal),
        face: stock.tag_face,
        look,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_stand_beside_each_other_within_the_shelf() {
        let fonts = Fonts::load().expect("the built-in fonts are fonts");
        let inside = Rect::new(50.0, 40.0, 1550.0, 1160.0);
        let mut gaps = 0;
        for seed in 0..50 {
            let plan = plan(&mut Dice::of_photo(seed, 1), &fonts, inside, 1.0);
            assert_eq!(plan.rows.len(), 4);
            for row in &plan.rows {
                let mut free_from = inside.x0;
                assert!(
                    row.groups.len() >= 2,
                    "seed {seed}: a row of {} groups",
                    row.groups.len()
                );
                for group in &row.groups {
                    assert!(group.height < row.floor - row.top);
                    assert!(group.cap >= 25.9, "{}: {}", group.brand.name, group.cap);
                    for place in &group.places {
                        assert!(
                            place.left >= free_from,
                            "seed {seed}: {} overlaps",
                            group.brand.name
                        );
                        free_from = place.left + group.width;
                        gaps += u32::from(!place.filled);
                    }
                }
                assert!(free_from <= inside.x1 + 0.5, "seed {seed}");
            }
        }
        assert!(gaps > 50, "{gaps} gaps in 50 photos");
    }
}
