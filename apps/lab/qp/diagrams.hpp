#pragma once
// A study in pictures.

#include <apps/lab/qp/study.hpp>
#include <apps/report/page.hpp>

namespace banach::lab::qp {

/// Feasible set, level curves, optima, multipliers as forces; or what shows that there is no solution.
report::Diagram problem_diagram(const Study& study);

/// The derivatives by the entries of p, h or b as arrows, beside differences and solutions.
report::Diagram derivative_diagram(const Study& study, char letter);

/// The path in the plane, each part in the colour of its active set.
report::Diagram path_diagram(const Study& study);

/// "p1" as p₁.
std::string with_subscript(const std::string& entry);
/// What is below 1e-9 of the unit is 0.
std::string number_words(double value, double unit);
/// "(0.5, -1.2)"; units are where both numbers are as large as they can be in what they are part of.
std::string pair_words(const Vector& v, const Vector& unit);

}  // namespace banach::lab::qp
