//! Money: which tokens an upstream reports, what they cost, and where that is counted.

mod classes;
