"""Statuses of a solve: Ipopt's integer codes, their names and what they mean."""

import enum


class Status(enum.IntEnum):
    """How a solve ended (Ipopt's application return codes). Inside compiled programs a status is one of these integers."""

    Solve_Succeeded = 0
    Solved_To_Acceptable_Level = 1
    Infeasible_Problem_Detected = 2
    Search_Direction_Becomes_Too_Small = 3
    Diverging_Iterates = 4
    User_Requested_Stop = 5
    Feasible_Point_Found = 6
    Maximum_Iterations_Exceeded = -1
    Restoration_Failed = -2
    Error_In_Step_Computation = -3
    Maximum_CpuTime_Exceeded = -4
    Maximum_WallTime_Exceeded = -5
    Not_Enough_Degrees_Of_Freedom = -10
    Invalid_Problem_Definition = -11
    Invalid_Option = -12
    Invalid_Number_Detected = -13
    Internal_Error = -199
    Running = -1000

    @property
    def message(self) -> str:
        """One sentence for people."""
        return MESSAGES[self]


MESSAGES = {
    Status.Solve_Succeeded: "Solved: the optimality conditions hold to the requested tolerance.",
    Status.Solved_To_Acceptable_Level: "Solved to the acceptable tolerance, not to the requested one.",
    Status.Infeasible_Problem_Detected: "Converged to a point of local infeasibility: the problem may be infeasible.",
    Status.Search_Direction_Becomes_Too_Small: "The search direction has become too small to make progress.",
    Status.Diverging_Iterates: "The iterates diverge: the problem may be unbounded.",
    Status.User_Requested_Stop: "Stopped by the intermediate callback.",
    Status.Feasible_Point_Found: "A feasible point of a square problem was found.",
    Status.Maximum_Iterations_Exceeded: "The iteration limit was reached; raise max_iter or check the scaling.",
    Status.Restoration_Failed: "The restoration phase found no point acceptable to the filter.",
    Status.Error_In_Step_Computation: "No search direction could be computed, or no step along it was possible.",
    Status.Maximum_CpuTime_Exceeded: "The CPU time limit was reached.",
    Status.Maximum_WallTime_Exceeded: "The wall time limit was reached.",
    Status.Not_Enough_Degrees_Of_Freedom: "There are more equality rows than free variables.",
    Status.Invalid_Problem_Definition: "A lower bound exceeds its upper bound, or there is nothing to solve.",
    Status.Invalid_Option: "An option has a value this solver does not support.",
    Status.Invalid_Number_Detected: "A function or derivative is NaN or infinite where it must not be.",
    Status.Internal_Error: "Internal error.",
    Status.Running: "Still running.",
}


class ConicStatus(enum.IntEnum):
    """How a convex solve ended. Inside compiled programs a status is one of these integers; `label` is the public string."""

    Optimal = 0
    Optimal_Inaccurate = 1
    Primal_Infeasible = 2
    Dual_Infeasible = 3
    Iteration_Limit = -1
    Time_Limit = -5
    Numerical_Failure = -3
    Running = -1000

    @property
    def label(self) -> str:
        """The name in lower case, as results give it: ``"primal_infeasible"``."""
        return self.name.lower()
