//! Tests of the policy that buys machines.
