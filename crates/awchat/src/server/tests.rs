//! Slow, broken and leaving clients over real sockets.
