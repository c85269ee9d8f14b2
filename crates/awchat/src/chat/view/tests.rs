//! What may be seen, what may not, and the laws of the text functions.
