//! Web pages of other origins: what the gateway says to them (`cors`), and what a real browser makes of that.

mod chromium;
mod cors;
mod pages;
mod site;
