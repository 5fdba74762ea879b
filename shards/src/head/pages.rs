//! A vector that grows by pages: no element moves, and growing never copies what is there.

const PAGE_SHIFT: usize = 12;
const PAGE_LEN: usize = 1 << PAGE_SHIFT;

/// Elements numbered from 0.
#[derive(Debug)]
pub struct Pages<T> {
    pages: Vec<Vec<T>>,
}

impl<T> Default for Pages<T> {
    fn default() -> Pages<T> {
        Pages { pages: Vec::new() }
    }
}

impl<T> Pages<T> {
    /// How many elements there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.pages.last().map_or(0, |last| (self.pages.len() - 1) * PAGE_LEN + last.len())
    }

    /// Adds an element at the end.
    pub fn push(&mut self, element: T) {
        match self.pages.last_mut() {
            Some(last) if last.len() < PAGE_LEN => last.push(element),
            _ => {
                let mut page = Vec::with_capacity(PAGE_LEN);
                page.push(element);
                self.pages.push(page);
            }
        }
    }
}

impl<T> std::ops::Index<u32> for Pages<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        &self.pages[index as usize >> PAGE_SHIFT][index as usize & (PAGE_LEN - 1)]
    }
}

impl<T> std::ops::IndexMut<u32> for Pages<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.pages[index as usize >> PAGE_SHIFT][index as usize & (PAGE_LEN - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_number_over_page_ends() {
        let mut pages = Pages::default();
        for number in 0..3 * PAGE_LEN as u32 + 1 {
            assert_eq!(pages.len(), number as usize);
            pages.push(number);
        }
        for number in 0..3 * PAGE_LEN as u32 + 1 {
            assert_eq!(pages[number], number);
        }
    }
}
