//! Values as terms over unknown ones: 64-bit words, simplified as they are made.
//!
//! Simplification does what addresses and masks need: constants are folded, an address is a symbol and an offset, and bits that are
//! known stay known. What is left is the solver's.

use std::fmt;
use std::rc::Rc;

/// An unknown word. Some of its bits may be known.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Symbol {
    /// Unique.
    pub name: String,
    /// Bits that are 0.
    pub zeros: u64,
    /// Bits that are 1.
    pub ones: u64,
}

/// A word.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Term(Rc<Node>);

/// How a word is made. Operands are never both constants.
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum Node {
    Const(u64),
    Symbol(Symbol),
    Add(Term, Term),
    Sub(Term, Term),
    And(Term, Term),
    Or(Term, Term),
    Xor(Term, Term),
    Shl(Term, u32),
    Shr(Term, u32),
}

use Node::{Add, And, Const, Or, Shl, Shr, Sub, Xor};

impl Term {
    fn new(node: Node) -> Term {
        Term(Rc::new(node))
    }

    /// A constant.
    pub fn constant(value: u64) -> Term {
        Term::new(Const(value))
    }

    /// An unknown word; the name must be given once.
    pub fn symbol(name: impl Into<String>) -> Term {
        Term::partly_known(name, 0, 0)
    }

    /// An unknown word of which some bits are 0 and some 1.
    pub fn partly_known(name: impl Into<String>, zeros: u64, ones: u64) -> Term {
        Term::new(Node::Symbol(Symbol { name: name.into(), zeros, ones }))
    }

    /// How it is made.
    pub fn node(&self) -> &Node {
        &self.0
    }

    /// Its value, if it has but one.
    pub fn value(&self) -> Option<u64> {
        let (zeros, ones) = self.known();
        (zeros | ones == u64::MAX).then_some(ones)
    }

    /// The bits that are 0, and those that are 1, whatever the symbols are.
    pub fn known(&self) -> (u64, u64) {
        match self.node() {
            Const(value) => (!value, *value),
            Node::Symbol(symbol) => (symbol.zeros, symbol.ones),
            Add(a, b) => sum(a.known(), b.known()),
            Sub(..) => (0, 0),
            And(a, b) => {
                let ((za, oa), (zb, ob)) = (a.known(), b.known());
                (za | zb, oa & ob)
            }
            Or(a, b) => {
                let ((za, oa), (zb, ob)) = (a.known(), b.known());
                (za & zb, oa | ob)
            }
            Xor(a, b) => {
                let ((za, oa), (zb, ob)) = (a.known(), b.known());
                ((za & zb) | (oa & ob), (za & ob) | (oa & zb))
            }
            Shl(a, by) => {
                let (zeros, ones) = a.known();
                ((zeros << by) | ((1 << by) - 1), ones << by)
            }
            Shr(a, by) => {
                let (zeros, ones) = a.known();
                (!(u64::MAX >> by) | (zeros >> by), ones >> by)
            }
        }
    }

    /// The symbols in it.
    pub fn symbols(&self) -> Vec<&Symbol> {
        match self.node() {
            Const(_) => Vec::new(),
            Node::Symbol(symbol) => vec![symbol],
            Shl(a, _) | Shr(a, _) => a.symbols(),
            Add(a, b) | Sub(a, b) | And(a, b) | Or(a, b) | Xor(a, b) => {
                a.symbols().into_iter().chain(b.symbols()).collect()
            }
        }
    }

    /// The sum, modulo 2^64.
    pub fn add(&self, other: &Term) -> Term {
        match (self.node(), other.node()) {
            (Const(a), Const(b)) => Term::constant(a.wrapping_add(*b)),
            (Const(_), _) => other.add(self),
            (_, Const(0)) => self.clone(),
            (Add(base, offset), Const(b)) if matches!(offset.node(), Const(_)) => {
                base.add(&offset.add(&Term::constant(*b)))
            }
            _ => Term::new(Add(self.clone(), other.clone())),
        }
    }

    /// The sum with a constant.
    pub fn plus(&self, offset: i64) -> Term {
        self.add(&Term::constant(offset as u64))
    }

    /// The difference, modulo 2^64.
    pub fn sub(&self, other: &Term) -> Term {
        if let Const(b) = other.node() {
            return self.add(&Term::constant(b.wrapping_neg()));
        }
        let ((base, a), (other_base, b)) = (self.split(), other.split());
        if base == other_base { Term::constant(a.wrapping_sub(b)) } else { Term::new(Sub(self.clone(), other.clone())) }
    }

    /// It as a term and a constant added to that.
    pub fn split(&self) -> (Term, u64) {
        match self.node() {
            Const(value) => (Term::constant(0), *value),
            Add(base, offset) => match offset.node() {
                Const(offset) => (base.clone(), *offset),
                _ => (self.clone(), 0),
            },
            _ => (self.clone(), 0),
        }
    }

    /// As [`split`](Self::split), if adding carries nowhere: then it is the same as OR.
    fn split_or(&self) -> Option<(Term, u64)> {
        let (base, offset) = self.split();
        (offset & !base.known().0 == 0).then_some((base, offset))
    }

    /// Bit by bit.
    pub fn and(&self, mask: &Term) -> Term {
        match (self.node(), mask.node()) {
            (Const(a), Const(b)) => return Term::constant(a & b),
            (Const(_), _) => return mask.and(self),
            _ if self == mask => return self.clone(),
            _ => {}
        }
        let Const(mask_value) = *mask.node() else {
            return Term::new(And(self.clone(), mask.clone()));
        };
        let (zeros, ones) = self.known();
        if mask_value & !(zeros | ones) == 0 {
            return Term::constant(ones & mask_value);
        }
        if !mask_value & !zeros == 0 {
            return self.clone();
        }
        // The lowest bits of a multiple of a power of two, and what was added.
        let (base, offset) = self.split();
        let low = !mask_value;
        if offset != 0 && (low & low.wrapping_add(1)) == 0 && low & !base.known().0 == 0 {
            return base.plus((offset & mask_value) as i64);
        }
        match self.node() {
            And(a, inner) if matches!(inner.node(), Const(_)) => a.and(&inner.and(mask)),
            Or(a, b) if mask_value & !a.known().0 == 0 => b.and(mask),
            Or(a, b) if mask_value & !b.known().0 == 0 => a.and(mask),
            _ => match self.split_or().filter(|(_, offset)| *offset != 0) {
                Some((base, offset)) => base.and(mask).plus((offset & mask_value) as i64),
                None => Term::new(And(self.clone(), mask.clone())),
            },
        }
    }

    /// The bits of a mask.
    pub fn masked(&self, mask: u64) -> Term {
        self.and(&Term::constant(mask))
    }

    /// Bit by bit.
    pub fn or(&self, other: &Term) -> Term {
        match (self.node(), other.node()) {
            (Const(a), Const(b)) => return Term::constant(a | b),
            (Const(_), _) => return other.or(self),
            (_, Const(bits)) if bits & !self.known().1 == 0 => return self.clone(),
            _ if self == other => return self.clone(),
            _ => {}
        }
        if let Const(bits) = *other.node()
            && let Some((base, offset)) = self.split_or().filter(|(base, _)| bits & !base.known().0 == 0)
        {
            return base.add(&Term::constant(offset | bits));
        }
        // Two halves of one word.
        for (low, high) in [(self, other), (other, self)] {
            if let (And(a, mask), Shl(shifted, 32)) = (low.node(), high.node())
                && let (Const(0xffff_ffff), Shr(b, 32)) = (mask.node(), shifted.node())
                && a == b
            {
                return a.clone();
            }
        }
        Term::new(Or(self.clone(), other.clone()))
    }

    /// Bit by bit.
    pub fn xor(&self, other: &Term) -> Term {
        match (self.node(), other.node()) {
            (Const(a), Const(b)) => Term::constant(a ^ b),
            (Const(_), _) => other.xor(self),
            (_, Const(0)) => self.clone(),
            _ if self == other => Term::constant(0),
            _ => Term::new(Xor(self.clone(), other.clone())),
        }
    }

    /// To the left, by less than 64.
    pub fn shl(&self, by: u32) -> Term {
        match self.node() {
            Const(value) => Term::constant(value << by),
            _ if by == 0 => self.clone(),
            _ => Term::new(Shl(self.clone(), by)),
        }
    }

    /// To the right, by less than 64, with zeros.
    pub fn shr(&self, by: u32) -> Term {
        match self.value() {
            Some(value) => Term::constant(value >> by),
            None if by == 0 => self.clone(),
            None => Term::new(Shr(self.clone(), by)),
        }
    }
}

/// The known bits of a sum.
fn sum((za, oa): (u64, u64), (zb, ob): (u64, u64)) -> (u64, u64) {
    // Where no two ones can meet, nothing carries.
    if !za & !zb == 0 {
        return (za & zb, oa | ob);
    }
    let low = (za | oa).trailing_ones().min((zb | ob).trailing_ones());
    let mask = if low == 64 { u64::MAX } else { (1 << low) - 1 };
    let value = oa.wrapping_add(ob) & mask;
    (!value & mask, value)
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node() {
            Const(value) if *value < 10 => write!(f, "{value}"),
            Const(value) => write!(f, "{value:#x}"),
            Node::Symbol(symbol) => f.write_str(&symbol.name),
            Add(a, b) => match b.node() {
                Const(b) if (*b as i64) < 0 => write!(f, "{a} - {:#x}", b.wrapping_neg()),
                _ => write!(f, "{a} + {b}"),
            },
            Sub(a, b) => write!(f, "({a} - {b})"),
            And(a, b) => write!(f, "({a} & {b})"),
            Or(a, b) => write!(f, "({a} | {b})"),
            Xor(a, b) => write!(f, "({a} ^ {b})"),
            Shl(a, by) => write!(f, "({a} << {by})"),
            Shr(a, by) => write!(f, "({a} >> {by})"),
        }
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is true of some words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// They are the same.
    Equal(Term, Term),
    /// The first is less, without sign.
    Below(Term, Term),
    /// The other is not true.
    Not(Box<Condition>),
}

impl Condition {
    /// The opposite.
    pub fn not(self) -> Condition {
        match self {
            Condition::Not(inner) => *inner,
            other => Condition::Not(Box::new(other)),
        }
    }

    /// Whether it is true, if that needs no solver.
    pub fn decided(&self) -> Option<bool> {
        match self {
            Condition::Equal(a, b) if a == b => Some(true),
            Condition::Equal(a, b) => {
                let ((za, oa), (zb, ob)) = (a.known(), b.known());
                match (a.value(), b.value()) {
                    (Some(a), Some(b)) => Some(a == b),
                    _ if (za & ob) | (oa & zb) != 0 => Some(false),
                    _ => None,
                }
            }
            Condition::Below(a, b) => Some(a.value()? < b.value()?),
            Condition::Not(inner) => inner.decided().map(|is| !is),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Equal(a, b) => write!(f, "{a} = {b}"),
            Condition::Below(a, b) => write!(f, "{a} < {b}"),
            Condition::Not(inner) => write!(f, "not ({inner})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_base_and_an_offset() {
        let top = Term::partly_known("top", 15, 0);
        let there = top.plus(-8).plus(-16).add(&Term::constant(4));
        assert_eq!(there.split(), (top.clone(), 20u64.wrapping_neg()));
        assert_eq!(there.sub(&top).value(), Some(20u64.wrapping_neg()));
        assert_eq!(there.known().1 & 15, 12);
        assert_eq!(top.plus(-40).masked(!15), top.plus(-48));
    }

    #[test]
    fn a_page_table_bit_comes_and_goes() {
        let table = Term::partly_known("cr3", 0x1000, 0);
        let user = table.or(&Term::constant(0x1000));
        assert_eq!(user.masked(!0x1000), table);
        assert_eq!(user.plus(-0x1000), table);
        assert_eq!(user.masked(0x1000).value(), Some(0x1000));
        assert_eq!(table.masked(0x1000).value(), Some(0));
    }

    #[test]
    fn a_word_survives_its_halves() {
        let base = Term::symbol("gs");
        let (low, high) = (base.masked(0xffff_ffff), base.shr(32));
        assert_eq!(low.or(&high.shl(32)), base);
        assert_eq!(high.shl(32).or(&low), base);
    }

    /// Numbers that look random, the same each time (xorshift).
    struct Chance(u64);

    impl Chance {
        fn number(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
            &of[self.number() as usize % of.len()]
        }
    }

    /// A term's value with these values for its symbols.
    fn evaluate(term: &Term, values: &[(&str, u64)]) -> u64 {
        let of = |term: &Term| evaluate(term, values);
        match term.node() {
            Const(value) => *value,
            Node::Symbol(symbol) => values.iter().find(|(name, _)| *name == symbol.name).expect("a value").1,
            Add(a, b) => of(a).wrapping_add(of(b)),
            Sub(a, b) => of(a).wrapping_sub(of(b)),
            And(a, b) => of(a) & of(b),
            Or(a, b) => of(a) | of(b),
            Xor(a, b) => of(a) ^ of(b),
            Shl(a, by) => of(a) << by,
            Shr(a, by) => of(a) >> by,
        }
    }

    /// Random operations on random operands: the simplified term has the value that the operations have, and what is said to be known
    /// of it is so.
    #[test]
    fn simplification_changes_no_value() {
        const SYMBOLS: [(&str, u64, u64); 6] = [
            ("any", 0, 0),
            ("aligned", 15, 0xffff_8000_0000_0000),
            ("alias", 0xffff_003f, 0xffff_8000_0000_0000),
            ("table", 0x1000, 0),
            ("selector", !0xffff, 3),
            ("half", 0xffff_ffff_0000_0000, 0x8000_0000),
        ];
        const CONSTANTS: [u64; 16] = [
            0,
            1,
            3,
            8,
            15,
            !15,
            0x28,
            0xfff,
            0x1000,
            !0x1000,
            !0xfff,
            0xffff_ffff,
            0xffff_0000,
            !0xffff,
            u64::MAX,
            0x8000_0000,
        ];
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
        for _ in 0..4000 {
            let values = SYMBOLS.map(|(name, zeros, ones)| (name, chance.number() & !zeros | ones));
            let symbols = SYMBOLS.map(|(name, zeros, ones)| Term::partly_known(name, zeros, ones));
            let mut pool: Vec<(Term, u64)> =
                symbols.into_iter().zip(values).map(|(symbol, (_, value))| (symbol, value)).collect();
            for _ in 0..20 {
                let constant = *chance.one(&CONSTANTS);
                let (a, x) = chance.one(&pool).clone();
                let (b, y) = match chance.number() % 2 {
                    0 => chance.one(&pool).clone(),
                    _ => (Term::constant(constant), constant),
                };
                let by = *chance.one(&[0, 3, 8, 32, 63]);
                let (term, value) = match chance.number() % 8 {
                    0 => (a.add(&b), x.wrapping_add(y)),
                    1 => (a.sub(&b), x.wrapping_sub(y)),
                    2 | 3 => (a.and(&b), x & y),
                    4 => (a.or(&b), x | y),
                    5 => (a.xor(&b), x ^ y),
                    6 => (a.shl(by), x << by),
                    _ => (a.shr(by), x >> by),
                };
                let what = || format!("{term} of {a} and {b}, with {values:x?}");
                assert_eq!(evaluate(&term, &values), value, "{}", what());
                let (zeros, ones) = term.known();
                assert!(value & zeros == 0 && value & ones == ones, "{} is {value:#x}: {zeros:#x}, {ones:#x}", what());
                assert!(term.value().is_none_or(|known| known == value), "{}", what());
                let (base, offset) = term.split();
                assert_eq!(evaluate(&base, &values).wrapping_add(offset), value, "{}", what());
                let mut names: Vec<&str> = Vec::new();
                named(&term, &mut names);
                assert_eq!(term.symbols().iter().map(|symbol| symbol.name.as_str()).collect::<Vec<_>>(), names);
                for (condition, holds) in [
                    (Condition::Equal(term.clone(), b.clone()), value == y),
                    (Condition::Below(term.clone(), b.clone()), value < y),
                    (Condition::Equal(term.clone(), b.clone()).not(), value != y),
                ] {
                    assert!(
                        condition.decided().is_none_or(|decided| decided == holds),
                        "{condition}, with {values:x?}"
                    );
                }
                pool.push((term, value));
            }
        }
    }

    fn named<'a>(term: &'a Term, names: &mut Vec<&'a str>) {
        match term.node() {
            Const(_) => {}
            Node::Symbol(symbol) => names.push(&symbol.name),
            Shl(a, _) | Shr(a, _) => named(a, names),
            Add(a, b) | Sub(a, b) | And(a, b) | Or(a, b) | Xor(a, b) => {
                named(a, names);
                named(b, names);
            }
        }
    }

    /// All that can be known of an operation bit by bit is known: what its result is for all values of the bits that are not.
    #[test]
    fn what_is_known_of_bits_is_all_that_can_be() {
        // Each pair of 0, 1 and unknown.
        let (a_zeros, a_ones) = (0b000_000_111, 0b000_111_000);
        let (b_zeros, b_ones) = (0b001_001_001, 0b010_010_010);
        let (a, b) = (Term::partly_known("a", a_zeros, a_ones), Term::partly_known("b", b_zeros, b_ones));
        let all = |zeros: u64, ones: u64| (0..1 << 9).filter(move |value| value & zeros == 0 && value & ones == ones);
        type Operation = (fn(&Term, &Term) -> Term, fn(u64, u64) -> u64);
        let operations: [Operation; 3] =
            [(Term::and, |a, b| a & b), (Term::or, |a, b| a | b), (Term::xor, |a, b| a ^ b)];
        for (of_terms, of_values) in operations {
            let (mut zeros, mut ones) = (0x1ff, 0x1ff);
            for x in all(a_zeros, a_ones) {
                for y in all(b_zeros, b_ones) {
                    (zeros, ones) = (zeros & !of_values(x, y), ones & of_values(x, y));
                }
            }
            let term = of_terms(&a, &b);
            assert_eq!((term.known().0 & 0x1ff, term.known().1 & 0x1ff), (zeros, ones), "{term}");
        }
        assert_eq!(a.shl(3).known(), (a_zeros << 3 | 7, a_ones << 3));
        assert_eq!(a.shr(3).known(), (a_zeros >> 3 | 7 << 61, a_ones >> 3));
        // Sums: where no two ones meet, and below the first unknown bit.
        let (low, high) = (Term::partly_known("low", !0xff, 1), Term::partly_known("high", 0xff, 0x100));
        assert_eq!(low.add(&high).known(), (0, 0x101));
        let (c, d) = (Term::partly_known("c", 0b010, 0b101), Term::partly_known("d", 0b100, 0b011));
        assert_eq!(c.add(&d).known(), (0b111, 0));
    }

    #[test]
    fn what_is_simplified_needs_no_solver() {
        let (a, b) = (Term::symbol("a"), Term::symbol("b"));
        let table = Term::partly_known("table", 0x1000, 0);
        assert_eq!(Term::constant(8).add(&a), a.plus(8));
        assert_eq!(a.add(&b).plus(8).split(), (a.add(&b), 8));
        assert_eq!(Term::constant(0x40).split(), (Term::constant(0), 0x40));
        assert_eq!(a.plus(8).sub(&a.plus(3)).value(), Some(5));
        assert_eq!(Term::constant(0xff).and(&a), a.masked(0xff));
        assert_eq!(a.and(&a), a);
        assert_eq!(a.masked(0xffff).masked(0xff0), a.masked(0xff0));
        assert_eq!(a.masked(0xff).or(&b).masked(0xff00), b.masked(0xff00));
        assert_eq!(b.or(&a.masked(0xff)).masked(0xff00), b.masked(0xff00));
        assert_eq!(table.plus(0x1000).masked(!0x1000), table);
        assert_eq!(table.plus(0x1000).masked(0x1fff), table.masked(0x1fff).plus(0x1000));
        assert_eq!(Term::constant(1).or(&a), a.or(&Term::constant(1)));
        assert_eq!(a.or(&Term::constant(0)), a);
        assert_eq!(a.or(&a), a);
        let odd = Term::partly_known("odd", 0, 1);
        assert_eq!(odd.or(&Term::constant(1)), odd);
        assert_eq!(odd.masked(1), Term::constant(1));
        assert_eq!(Term::constant(1).shl(3), Term::constant(8));
        assert_eq!(Term::constant(8).shr(3), Term::constant(1));
        assert_eq!(table.or(&Term::constant(0x1000)), table.plus(0x1000));
        assert_eq!(Term::constant(1).xor(&a), a.xor(&Term::constant(1)));
        assert_eq!(a.xor(&Term::constant(0)), a);
        assert_eq!(a.xor(&a).value(), Some(0));
        assert_eq!(a.shl(0), a);
        assert_eq!(a.shr(0), a);
        assert_eq!(a.masked(0xff).shr(8).value(), Some(0));
        assert_eq!(Condition::Equal(a.clone(), a.clone()).decided(), Some(true));
        assert_eq!(Condition::Equal(a.clone(), b).not().not().decided(), None);
        assert_eq!(Condition::Below(Term::constant(1), Term::constant(1)).decided(), Some(false));
    }

    #[test]
    fn what_is_known_decides() {
        let selector = Term::partly_known("cs", !0xffff, 3);
        assert_eq!(Condition::Equal(selector.masked(3), Term::constant(0)).decided(), Some(false));
        assert_eq!(Condition::Equal(selector.clone(), Term::constant(0x33)).decided(), None);
        assert_eq!(Condition::Equal(selector.masked(3), Term::constant(3)).not().decided(), Some(false));
        let (odd, even) = (Term::partly_known("odd", 0, 1), Term::partly_known("even", 1, 0));
        assert_eq!(Condition::Equal(odd.clone(), even.clone()).decided(), Some(false));
        assert_eq!(Condition::Equal(even, odd).decided(), Some(false));
        let one = Term::partly_known("one", !1, 1);
        assert_eq!(Condition::Equal(one, Term::constant(1)).decided(), Some(true));
    }

    #[test]
    fn terms_and_conditions_are_printed() {
        let (a, b) = (Term::symbol("a"), Term::symbol("b"));
        let terms = [
            (Term::constant(9), "9"),
            (Term::constant(10), "0xa"),
            (a.plus(16), "a + 0x10"),
            (a.plus(-16), "a - 0x10"),
            (a.add(&b), "a + b"),
            (a.sub(&b), "(a - b)"),
            (a.and(&b).masked(0xff), "((a & b) & 0xff)"),
            (a.or(&b), "(a | b)"),
            (a.xor(&b), "(a ^ b)"),
            (a.shl(3), "(a << 3)"),
            (a.shr(3), "(a >> 3)"),
        ];
        for (term, text) in terms {
            assert_eq!(term.to_string(), text);
            assert_eq!(format!("{term:?}"), text);
        }
        // The sum with 0 is no sum: what no operation makes is printed all the same.
        assert_eq!(Term::new(Add(a.clone(), Term::constant(0))).to_string(), "a + 0");
        assert_eq!(Condition::Equal(a.clone(), b.clone()).to_string(), "a = b");
        assert_eq!(Condition::Below(a, b).not().to_string(), "not (a < b)");
    }
}
