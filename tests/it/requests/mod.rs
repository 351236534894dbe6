//! What clients send in forms of their own: keys in several headers, names of models with a slash, other bodies than plain JSON; and in
//! which form they are told of errors.

mod batches;
mod bodies;
mod credentials;
mod errors;
mod ids;
mod paths;
