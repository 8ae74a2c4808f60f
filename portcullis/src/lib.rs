//! Portcullis.
#![no_std]
