//! Z3, for what simplification leaves open: whether a path exists, and whether something holds on it.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use easy_smt::{Context, ContextBuilder, Response, SExpr};

use super::term::{Condition, Node, Symbol, Term};

/// A running solver.
pub struct Solver {
    context: Context,
    symbols: HashMap<String, SExpr>,
    terms: HashMap<Term, SExpr>,
    /// How many questions it was asked.
    pub questions: u64,
}

impl Solver {
    /// Starts it.
    pub fn start() -> Result<Solver> {
        let mut context = ContextBuilder::new()
            .solver("z3")
            .solver_args(["-smt2", "-in"])
            .build()
            .context("cannot start z3: apt-get install z3")?;
        context.set_logic("QF_BV")?;
        Ok(Solver { context, symbols: HashMap::new(), terms: HashMap::new(), questions: 0 })
    }

    /// How many different terms it has seen.
    pub fn terms(&self) -> usize {
        self.terms.len()
    }

    /// Whether all of these can be true at once.
    pub fn possible(&mut self, conditions: &[Condition]) -> Result<bool> {
        Ok(self.example(conditions)?.is_some())
    }

    /// A value for each symbol of the conditions with which they are all true, by name.
    pub fn example(&mut self, conditions: &[Condition]) -> Result<Option<Vec<(String, u64)>>> {
        if conditions.iter().any(|condition| condition.decided() == Some(false)) {
            return Ok(None);
        }
        let open: Vec<&Condition> = conditions.iter().filter(|condition| condition.decided().is_none()).collect();
        self.questions += 1;
        let mut expressions = Vec::new();
        for condition in &open {
            expressions.push(self.condition(condition)?);
        }
        self.context.push()?;
        for expression in expressions {
            self.context.assert(expression)?;
        }
        let found = match self.context.check()? {
            Response::Unsat => None,
            Response::Sat => Some(self.values(&open)?),
            Response::Unknown => bail!("the solver does not know"),
        };
        self.context.pop()?;
        Ok(found)
    }

    fn values(&mut self, conditions: &[&Condition]) -> Result<Vec<(String, u64)>> {
        let mut names = Vec::new();
        conditions.iter().for_each(|condition| symbols_of_condition(condition, &mut names));
        names.sort_unstable();
        names.dedup();
        let asked: Vec<SExpr> = names.iter().filter_map(|name| self.symbols.get(*name).copied()).collect();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.context.get_value(asked)?;
        let number = |value: SExpr| -> u64 {
            let text = self.context.display(value).to_string();
            match (text.strip_prefix("#x"), text.strip_prefix("#b")) {
                (Some(digits), _) => u64::from_str_radix(digits, 16).unwrap_or(0),
                (_, Some(digits)) => u64::from_str_radix(digits, 2).unwrap_or(0),
                _ => 0,
            }
        };
        Ok(names
            .iter()
            .map(|name| (*name).to_owned())
            .zip(values.into_iter().map(|(_, value)| number(value)))
            .collect())
    }

    fn condition(&mut self, condition: &Condition) -> Result<SExpr> {
        Ok(match condition {
            Condition::Equal(a, b) => {
                let (a, b) = (self.term(a)?, self.term(b)?);
                self.context.eq(a, b)
            }
            Condition::Below(a, b) => {
                let (a, b) = (self.term(a)?, self.term(b)?);
                self.context.bvult(a, b)
            }
            Condition::Not(inner) => {
                let inner = self.condition(inner)?;
                self.context.not(inner)
            }
        })
    }

    fn term(&mut self, term: &Term) -> Result<SExpr> {
        if let Some(known) = self.terms.get(term) {
            return Ok(*known);
        }
        let expression = match term.node() {
            Node::Const(value) => self.context.binary(64, *value),
            Node::Symbol(symbol) => self.symbol(symbol)?,
            Node::Shl(a, by) => {
                let (a, by) = (self.term(a)?, self.context.binary(64, u64::from(*by)));
                self.context.bvshl(a, by)
            }
            Node::Shr(a, by) => {
                let (a, by) = (self.term(a)?, self.context.binary(64, u64::from(*by)));
                self.context.bvlshr(a, by)
            }
            Node::Add(a, b) | Node::Sub(a, b) | Node::And(a, b) | Node::Or(a, b) | Node::Xor(a, b) => {
                let (a, b) = (self.term(a)?, self.term(b)?);
                match term.node() {
                    Node::Add(..) => self.context.bvadd(a, b),
                    Node::Sub(..) => self.context.bvsub(a, b),
                    Node::And(..) => self.context.bvand(a, b),
                    Node::Or(..) => self.context.bvor(a, b),
                    _ => self.context.bvxor(a, b),
                }
            }
        };
        self.terms.insert(term.clone(), expression);
        Ok(expression)
    }

    /// Declares it with what is known of its bits. Called with no question open.
    fn symbol(&mut self, symbol: &Symbol) -> Result<SExpr> {
        let width = self.context.bit_vec_sort(self.context.numeral(64));
        let name = symbol.name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let expression = self.context.declare_const(format!("{name}_{}", self.symbols.len()), width)?;
        if symbol.zeros | symbol.ones != 0 {
            let mask = self.context.binary(64, symbol.zeros | symbol.ones);
            let ones = self.context.binary(64, symbol.ones);
            let known = self.context.bvand(expression, mask);
            self.context.assert(self.context.eq(known, ones))?;
        }
        if self.symbols.insert(symbol.name.clone(), expression).is_some() {
            bail!("two symbols have the name {}", symbol.name);
        }
        Ok(expression)
    }
}

fn symbols_of_condition<'a>(condition: &'a Condition, names: &mut Vec<&'a str>) {
    match condition {
        Condition::Equal(a, b) | Condition::Below(a, b) => {
            names.extend(a.symbols().into_iter().chain(b.symbols()).map(|symbol| symbol.name.as_str()));
        }
        Condition::Not(inner) => symbols_of_condition(inner, names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing to prove with on this machine: `./x prove` installs it.
    fn solver() -> Option<Solver> {
        Solver::start().map_err(|error| eprintln!("skipped: {error:#}")).ok()
    }

    #[test]
    fn it_finds_what_contradicts() {
        let Some(mut solver) = solver() else { return };
        let (a, b) = (Term::symbol("a"), Term::partly_known("b", 0xff, 0x100));
        let equal = Condition::Equal(a.clone(), b.clone());
        let example = solver.example(std::slice::from_ref(&equal)).unwrap().unwrap();
        assert_eq!(example.len(), 2);
        assert!(example.iter().all(|(_, value)| value & 0x1ff == 0x100), "{example:x?}");
        let low = Condition::Equal(a.masked(1), Term::constant(1));
        assert!(!solver.possible(&[equal.clone(), low.clone()]).unwrap());
        assert!(solver.possible(&[equal.not(), low]).unwrap());
        assert!(!solver.possible(&[Condition::Below(b, Term::constant(0x100))]).unwrap());
    }
}
