//! Recovery keys: random keys written in letters, for paper. A typing error is distinguished from the key of another
//! slot.

use super::{SecretKey, random, wiped};
use std::fmt;
use zeroize::Zeroizing;

/// 31 letters, a prime number, without those that are taken for another: no 0, 1, I, L, O.
const LETTERS: &[u8; 31] = b"23456789ABCDEFGHJKMNPQRSTUVWXYZ";
const PRIME: u32 = 31;
const GROUPS: usize = 8;
/// Letters that carry the key in each group; a check letter follows them.
const IN_GROUP: usize = 4;
const LEN: usize = GROUPS * (IN_GROUP + 1);

type Letters = Box<Zeroizing<[u8; GROUPS * IN_GROUP]>>;

/// 32 random letters: 158 bits. Boxed, so that moving it leaves no copy.
pub struct RecoveryKey(Letters);

/// Why letters are no recovery key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistyped {
    /// So many letters instead of 40.
    Length(usize),
    /// A sign that no recovery key has, in this group, counted from 1.
    Sign(usize),
    /// The check letter of this group, counted from 1, does not fit the others.
    Group(usize),
}

impl RecoveryKey {
    /// A fresh recovery key.
    pub fn random() -> Self {
        let mut letters = Letters::default();
        wiped(|| letters.fill_with(|| random::below(PRIME.into()) as u8));
        Self(letters)
    }

    /// Eight groups of five letters with hyphens between them.
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(LEN + GROUPS));
        for (number, group) in self.0.chunks_exact(IN_GROUP).enumerate() {
            if number > 0 {
                text.push('-');
            }
            let letters = group.iter().copied().chain([check_letter(number, group)]);
            letters.for_each(|letter| text.push(char::from(LETTERS[usize::from(letter)])));
        }
        text
    }

    /// Takes the letters of a key, in capitals or not, with any blanks and hyphens between them.
    ///
    /// # Errors
    ///
    /// [`Mistyped`], with the group that is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, Mistyped> {
        let mut typed = Box::new(Zeroizing::new([0; LEN]));
        let mut len = 0;
        for sign in text.iter().filter(|sign| !sign.is_ascii_whitespace() && **sign != b'-') {
            let letter = LETTERS.iter().position(|letter| *letter == sign.to_ascii_uppercase());
            let letter = letter.ok_or(Mistyped::Sign(len / (IN_GROUP + 1) + 1))?;
            if len < LEN {
                typed[len] = letter as u8;
            }
            len += 1;
        }
        if len != LEN {
            return Err(Mistyped::Length(len));
        }
        let mut key = Self(Letters::default());
        for (number, group) in typed.chunks_exact(IN_GROUP + 1).enumerate() {
            if check_letter(number, &group[..IN_GROUP]) != group[IN_GROUP] {
                return Err(Mistyped::Group(number + 1));
            }
            key.0[number * IN_GROUP..][..IN_GROUP].copy_from_slice(&group[..IN_GROUP]);
        }
        Ok(key)
    }

    /// The key of a slot.
    pub fn key(&self) -> SecretKey {
        let mut letters = Letters::default();
        for (letter, index) in letters.iter_mut().zip(self.0.iter()) {
            *letter = LETTERS[usize::from(*index)];
        }
        SecretKey::derived(None, &letters[..], &[b"kmsfs recovery key"])
    }
}

/// Weights modulo a prime, and one for the group's place: one wrong letter, two neighbours exchanged and a group in
/// another's place never pass.
fn check_letter(number: usize, group: &[u8]) -> u8 {
    let weighted = group.iter().zip(1..).map(|(letter, weight)| u32::from(*letter) * weight);
    ((weighted.sum::<u32>() + 5 * (number as u32 + 1)) % PRIME) as u8
}

impl fmt::Display for Mistyped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(len) => write!(f, "it has {len} letters where a recovery key has {LEN}: {GROUPS} groups of 5"),
            Self::Sign(group) => {
                write!(f, "group {group} has a sign that no recovery key has, such as 0, 1, I, L or O")
            }
            Self::Group(group) => write!(f, "group {group} has a typing error"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again_however_it_is_grouped() {
        let key = RecoveryKey::random();
        let text = key.text();
        assert_eq!((text.len(), text.matches('-').count()), (47, 7));
        let typed = [text.to_string(), text.to_lowercase(), text.replace('-', " ") + "\n", text.replace('-', "")];
        for typed in typed {
            assert_eq!(RecoveryKey::parse(typed.as_bytes()).map(|read| **read.0), Ok(**key.0), "{typed}");
        }
        assert_ne!(*RecoveryKey::random().0, *key.0);
        assert_ne!(RecoveryKey::random().key().expose(), key.key().expose());
    }

    /// As docs/FORMAT.md has it.
    #[test]
    fn letters_give_the_key_of_the_format() {
        let key = RecoveryKey(Box::new(Zeroizing::new(std::array::from_fn(|n| n as u8 % 31))));
        assert_eq!(key.text()[..], *"2345U-6789A-ABCDR-EFGH7-JKMNN-PQRS4-TUVWJ-XYZ2Z");
        assert_eq!(hex::encode(key.key().expose()), "c837f799671c11c182f6bb811cafdada43935b85597c94ff1f7c43c3b5194f6e");
    }

    #[test]
    fn every_wrong_letter_and_every_exchange_of_neighbours_is_found_in_its_group() {
        let text = RecoveryKey::random().text().replace('-', "").into_bytes();
        for at in 0..LEN {
            let group = at / 5 + 1;
            for &letter in LETTERS.iter().filter(|letter| **letter != text[at]) {
                let mut typed = text.clone();
                typed[at] = letter;
                assert_eq!(RecoveryKey::parse(&typed).err(), Some(Mistyped::Group(group)));
            }
            if at % 5 < 4 && text[at] != text[at + 1] {
                let mut typed = text.clone();
                typed.swap(at, at + 1);
                assert_eq!(RecoveryKey::parse(&typed).err(), Some(Mistyped::Group(group)));
            }
        }
        for (first, second) in [(0, 1), (2, 7)] {
            let mut groups: Vec<&[u8]> = text.chunks(5).collect();
            groups.swap(first, second);
            assert!(groups.concat() == text || RecoveryKey::parse(&groups.concat()).is_err());
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let text = RecoveryKey::random().text().to_string();
        let said = |typed: &str| RecoveryKey::parse(typed.as_bytes()).err().unwrap().to_string();
        assert_eq!(said(""), "it has 0 letters where a recovery key has 40: 8 groups of 5");
        assert_eq!(said(&format!("{text}2")), "it has 41 letters where a recovery key has 40: 8 groups of 5");
        let zero = format!("{}0{}", &text[..7], &text[8..]);
        assert_eq!(said(&zero), "group 2 has a sign that no recovery key has, such as 0, 1, I, L or O");
    }
}
