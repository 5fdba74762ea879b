//! Functions of one value, such as `abs` and `clamp`, and the arithmetic of the binary operators.

use crate::promql::ast::BinaryOp;

/// A function of a value and of the call's scalar arguments at that step. Nothing is no value.
pub(super) type MathFunction = fn(f64, &[f64]) -> Option<f64>;

/// The function of that name, if it maps each value of an instant vector.
pub(super) fn math_function(name: &str) -> Option<MathFunction> {
    Some(match name {
        "abs" => |value, _| Some(value.abs()),
        "ceil" => |value, _| Some(value.ceil()),
        "floor" => |value, _| Some(value.floor()),
        "exp" => |value, _| Some(value.exp()),
        "sqrt" => |value, _| Some(value.sqrt()),
        "ln" => |value, _| Some(value.ln()),
        "log2" => |value, _| Some(value.log2()),
        "log10" => |value, _| Some(value.log10()),
        "sin" => |value, _| Some(value.sin()),
        "cos" => |value, _| Some(value.cos()),
        "tan" => |value, _| Some(value.tan()),
        "asin" => |value, _| Some(value.asin()),
        "acos" => |value, _| Some(value.acos()),
        "atan" => |value, _| Some(value.atan()),
        "sinh" => |value, _| Some(value.sinh()),
        "cosh" => |value, _| Some(value.cosh()),
        "tanh" => |value, _| Some(value.tanh()),
        "asinh" => |value, _| Some(asinh(value)),
        "acosh" => |value, _| Some(acosh(value)),
        "atanh" => |value, _| Some(value.atanh()),
        "rad" => |value, _| Some(value * std::f64::consts::PI / 180.0),
        "deg" => |value, _| Some(value * 180.0 / std::f64::consts::PI),
        "sgn" => |value, _| Some(sign(value)),
        "round" => |value, args| Some(round(value, args.first().copied().unwrap_or(1.0))),
        "clamp" => |value, args| clamp(value, args[0], args[1]),
        "clamp_min" => |value, args| clamp(value, args[0], f64::INFINITY),
        "clamp_max" => |value, args| clamp(value, f64::NEG_INFINITY, args[0]),
        _ => return None,
    })
}

/// Zero and NaN stay what they are.
fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// From here on `sqrt(x * x ± 1)` is `x` to the last bit, and both inverse functions are the logarithm of `2 * x`.
const HYPERBOLA_IS_LINE: f64 = (1_u64 << 28) as f64;

/// The standard library doubles its argument, which makes an infinity of the largest numbers.
fn asinh(value: f64) -> f64 {
    if value.is_finite() && value.abs() > HYPERBOLA_IS_LINE {
        (value.abs().ln() + std::f64::consts::LN_2).copysign(value)
    } else {
        value.asinh()
    }
}

/// The same, and just above 1, where the standard library takes the logarithm of a number that has lost most of its
/// digits, one that keeps them.
fn acosh(value: f64) -> f64 {
    if value.is_finite() && value > HYPERBOLA_IS_LINE {
        value.ln() + std::f64::consts::LN_2
    } else if (1.0..2.0).contains(&value) {
        let above = value - 1.0;
        (above + (2.0 * above + above * above).sqrt()).ln_1p()
    } else {
        value.acosh()
    }
}

/// Halves go up.
fn round(value: f64, to_nearest: f64) -> f64 {
    let inverse = 1.0 / to_nearest;
    (value * inverse + 0.5).floor() / inverse
}

fn clamp(value: f64, min: f64, max: f64) -> Option<f64> {
    if max < min { None } else { Some(larger(min, smaller(max, value))) }
}

/// The maximum, with NaN if either is NaN, save that +Inf beats NaN.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else {
        a.max(b)
    }
}

/// The minimum, with NaN if either is NaN, save that -Inf beats NaN.
pub(super) fn smaller(a: f64, b: f64) -> f64 {
    -larger(-a, -b)
}

/// The value of a comparison as a number.
pub(super) fn from_bool(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// Whether a comparison holds; nothing for other operators.
#[inline]
pub(super) fn compare(op: BinaryOp, left: f64, right: f64) -> Option<bool> {
    Some(match op {
        BinaryOp::Equal => left == right,
        BinaryOp::NotEqual => left != right,
        BinaryOp::Greater => left > right,
        BinaryOp::Less => left < right,
        BinaryOp::GreaterEqual => left >= right,
        BinaryOp::LessEqual => left <= right,
        _ => return None,
    })
}

/// The result of an arithmetic operator; nothing for others.
#[inline]
pub(super) fn arithmetic(op: BinaryOp, left: f64, right: f64) -> Option<f64> {
    Some(match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Atan2 => left.atan2(right),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, value: f64, args: &[f64]) -> Option<f64> {
        math_function(name).unwrap()(value, args)
    }

    #[test]
    fn halves_round_up() {
        assert_eq!(call("round", 2.5, &[]), Some(3.0));
        assert_eq!(call("round", -2.5, &[]), Some(-2.0));
        assert_eq!(call("round", 47.0, &[5.0]), Some(45.0));
    }

    #[test]
    fn inverse_hyperbolic_functions_are_exact_at_both_ends() {
        let is_close = |found: f64, expected: f64| (found - expected).abs() <= 1e-15 * expected.abs();
        for (value, expected) in
            [(f64::MAX, 710.475_860_073_944), (1e200, 461.210_165_779_369_1), (3e8, 20.212_440_213_180_42)]
        {
            assert!(is_close(call("asinh", value, &[]).unwrap(), expected), "{value}");
            assert!(is_close(call("asinh", -value, &[]).unwrap(), -expected), "{value}");
            assert!(is_close(call("acosh", value, &[]).unwrap(), expected), "{value}");
        }
        assert!(is_close(call("acosh", 1.0 + f64::EPSILON, &[]).unwrap(), 2.107_342_425_544_701_4e-8));
        assert_eq!(call("acosh", 1.0, &[]), Some(0.0));
        assert!(call("acosh", 0.5, &[]).unwrap().is_nan() && call("asinh", f64::NAN, &[]).unwrap().is_nan());
        assert_eq!(call("asinh", f64::NEG_INFINITY, &[]), Some(f64::NEG_INFINITY));
        assert!(call("asinh", -0.0, &[]).unwrap().is_sign_negative());
    }

    #[test]
    fn an_empty_clamp_range_has_no_value() {
        assert_eq!(call("clamp", 5.0, &[0.0, 3.0]), Some(3.0));
        assert_eq!(call("clamp", 5.0, &[3.0, 0.0]), None);
        assert!(call("clamp_min", f64::NAN, &[1.0]).unwrap().is_nan());
        assert!(call("clamp_max", 1.0, &[f64::NAN]).unwrap().is_nan());
    }

    #[test]
    fn extremes_treat_nan_and_zero_like_go() {
        assert!(larger(1.0, f64::NAN).is_nan() && smaller(f64::NAN, 1.0).is_nan());
        assert_eq!(larger(f64::INFINITY, f64::NAN), f64::INFINITY);
        assert!(smaller(0.0, -0.0).is_sign_negative() && larger(-0.0, 0.0).is_sign_positive());
    }

    #[test]
    fn the_sign_of_zero_and_nan_is_itself() {
        assert!(call("sgn", -0.0, &[]).unwrap().is_sign_negative());
        assert!(call("sgn", f64::NAN, &[]).unwrap().is_nan());
        assert_eq!(call("sgn", -3.0, &[]), Some(-1.0));
    }

    #[test]
    fn modulo_keeps_the_sign_of_the_dividend() {
        assert_eq!(arithmetic(BinaryOp::Mod, -5.5, 2.0), Some(-1.5));
        assert_eq!(compare(BinaryOp::NotEqual, f64::NAN, f64::NAN), Some(true));
    }
}
