"""What can be set on the interior-point method, under Ipopt's names and with Ipopt's defaults.

The numbers people change between solves are traced: changing one never recompiles. The others are constants of the compiled
program, which makes it a third smaller; choices select another program.
"""

import dataclasses
import functools
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


Traced = Any  # a Python float outside a solve, a traced scalar inside


class Numbers(eqx.Module):
    """Numeric options of the method (Ipopt 3.14 names and defaults). Inside a solve every field is a traced scalar."""

    # termination
    tol: Traced = 1e-8
    max_iter: Traced = 3000.0
    dual_inf_tol: Traced = 1.0
    constr_viol_tol: Traced = 1e-4
    compl_inf_tol: Traced = 1e-4
    acceptable_tol: Traced = 1e-6
    acceptable_iter: Traced = 15.0
    acceptable_dual_inf_tol: Traced = 1e10
    acceptable_constr_viol_tol: Traced = 1e-2
    acceptable_compl_inf_tol: Traced = 1e-2
    acceptable_obj_change_tol: Traced = 1e20
    diverging_iterates_tol: Traced = 1e20
    s_max: Traced = 100.0
    mu_target: Traced = 0.0
    # barrier parameter
    mu_init: Traced = 0.1
    mu_min: Traced = 1e-11
    mu_max: Traced = -1.0  # negative: mu_max_fact times the first average complementarity
    mu_max_fact: Traced = 1e3
    barrier_tol_factor: Traced = 10.0
    mu_linear_decrease_factor: Traced = 0.2
    mu_superlinear_decrease_power: Traced = 1.5
    tau_min: Traced = 0.99
    sigma_max: Traced = 100.0
    sigma_min: Traced = 1e-6
    quality_function_section_sigma_tol: Traced = 1e-2
    quality_function_section_qf_tol: Traced = 0.0
    adaptive_mu_kkterror_red_fact: Traced = 0.9999
    adaptive_mu_monotone_init_factor: Traced = 0.8
    adaptive_mu_safeguard_factor: Traced = 0.0
    filter_margin_fact: Traced = 1e-5
    filter_max_margin: Traced = 1.0
    # starting point
    bound_push: Traced = 1e-2
    bound_frac: Traced = 1e-2
    slack_bound_push: Traced = 1e-2
    slack_bound_frac: Traced = 1e-2
    bound_mult_init_val: Traced = 1.0
    constr_mult_init_max: Traced = 1e3
    warm_start_bound_push: Traced = 1e-3
    warm_start_bound_frac: Traced = 1e-3
    warm_start_slack_bound_push: Traced = 1e-3
    warm_start_slack_bound_frac: Traced = 1e-3
    warm_start_mult_bound_push: Traced = 1e-3
    warm_start_mult_init_max: Traced = 1e6
    warm_start_target_mu: Traced = 0.0
    # form of the problem
    nlp_lower_bound_inf: Traced = -1e19
    nlp_upper_bound_inf: Traced = 1e19
    bound_relax_factor: Traced = 1e-8
    kappa_d: Traced = 1e-5
    slack_move: Traced = float(np.finfo(np.float64).eps ** 0.75)
    nlp_scaling_max_gradient: Traced = 100.0
    nlp_scaling_min_value: Traced = 1e-8
    nlp_scaling_obj_target_gradient: Traced = 0.0
    nlp_scaling_constr_target_gradient: Traced = 0.0
    obj_scaling_factor: Traced = 1.0
    # line search
    alpha_red_factor: Traced = 0.5
    alpha_for_y_tol: Traced = 10.0
    tiny_step_tol: Traced = float(10 * np.finfo(np.float64).eps)
    tiny_step_y_tol: Traced = 1e-2
    watchdog_shortened_iter_trigger: Traced = 10.0
    watchdog_trial_iter_max: Traced = 3.0
    theta_max_fact: Traced = 1e4
    theta_min_fact: Traced = 1e-4
    eta_phi: Traced = 1e-8
    delta: Traced = 1.0
    s_phi: Traced = 2.3
    s_theta: Traced = 1.1
    gamma_phi: Traced = 1e-8
    gamma_theta: Traced = 1e-5
    alpha_min_frac: Traced = 0.05
    max_soc: Traced = 4.0
    kappa_soc: Traced = 0.99
    obj_max_inc: Traced = 5.0
    max_filter_resets: Traced = 5.0
    filter_reset_trigger: Traced = 5.0
    accept_after_max_steps: Traced = -1.0
    kappa_sigma: Traced = 1e10
    recalc_y_feas_tol: Traced = 1e-6
    # restoration
    required_infeasibility_reduction: Traced = 0.9
    soft_resto_pderror_reduction_factor: Traced = 0.9999
    max_soft_resto_iters: Traced = 10.0
    max_resto_iter: Traced = 3e6
    resto_penalty_parameter: Traced = 1e3
    resto_proximity_weight: Traced = 1.0
    bound_mult_reset_threshold: Traced = 1e3
    # quasi-Newton
    limited_memory_init_val: Traced = 1.0
    limited_memory_init_val_min: Traced = 1e-8
    limited_memory_init_val_max: Traced = 1e8
    limited_memory_max_skipping: Traced = 2.0
    # regularisation and refinement
    first_hessian_perturbation: Traced = 1e-4
    min_hessian_perturbation: Traced = 1e-20
    max_hessian_perturbation: Traced = 1e20
    perturb_inc_fact_first: Traced = 100.0
    perturb_inc_fact: Traced = 8.0
    perturb_dec_fact: Traced = 1.0 / 3.0
    jacobian_regularization_value: Traced = 1e-8
    jacobian_regularization_exponent: Traced = 0.25
    min_refinement_steps: Traced = 1.0
    max_refinement_steps: Traced = 10.0
    residual_ratio_max: Traced = 1e-10
    residual_ratio_singular: Traced = 1e-5
    residual_improvement_factor: Traced = 0.999999999

    def split(self) -> tuple[np.ndarray, tuple[float, ...]]:
        """The traced numbers as one vector (one argument of a compiled function instead of twenty), and the constant ones."""
        traced = np.array([getattr(self, name) for name in TRACED_NAMES], dtype=np.float64)
        return traced, tuple(float(getattr(self, name)) for name in CONSTANT_NAMES)

    @staticmethod
    def join(traced: Float[Array, " k"], constant: tuple[float, ...]) -> "Numbers":
        """Inverse of `split`, on a traced vector."""
        values = dict(zip(TRACED_NAMES, traced)) | {
            name: jnp.asarray(value, traced.dtype) for name, value in zip(CONSTANT_NAMES, constant)
        }
        return Numbers(**values)

    def pack(self) -> np.ndarray:
        """All numbers in field order, as one float64 vector."""
        return np.array([getattr(self, name) for name in NUMBER_NAMES], dtype=np.float64)

    @staticmethod
    def unpack(vector: Float[Array, " k"]) -> "Numbers":
        """Inverse of `pack`, on a traced vector: every number is then traced."""
        return Numbers(**{name: vector[i] for i, name in enumerate(NUMBER_NAMES)})  # pyright: ignore[reportArgumentType]


NUMBER_NAMES = tuple(field.name for field in dataclasses.fields(Numbers))
TRACED_NAMES = (
    "tol",
    "max_iter",
    "dual_inf_tol",
    "constr_viol_tol",
    "compl_inf_tol",
    "acceptable_tol",
    "acceptable_iter",
    "mu_init",
    "mu_target",
    "bound_relax_factor",
    "bound_push",
    "bound_frac",
    "slack_bound_push",
    "slack_bound_frac",
    "constr_mult_init_max",
    "warm_start_mult_bound_push",
    "warm_start_target_mu",
    "obj_scaling_factor",
)
CONSTANT_NAMES = tuple(name for name in NUMBER_NAMES if name not in TRACED_NAMES)


class Choices(eqx.Module):
    """Options that select another program (Ipopt 3.14 names and defaults). All static."""

    mu_strategy: Literal["monotone", "adaptive"] = eqx.field(static=True, default="monotone")
    mu_oracle: Literal["quality-function", "loqo", "probing"] = eqx.field(static=True, default="quality-function")
    fixed_mu_oracle: Literal["average_compl"] = eqx.field(static=True, default="average_compl")
    adaptive_mu_globalization: Literal["obj-constr-filter", "kkt-error", "never-monotone-mode"] = eqx.field(
        static=True, default="obj-constr-filter"
    )
    adaptive_mu_kkterror_red_iters: int = eqx.field(static=True, default=4)
    adaptive_mu_restore_previous_iterate: bool = eqx.field(static=True, default=False)
    quality_function_norm_type: Literal["1-norm", "2-norm-squared", "max-norm", "2-norm"] = eqx.field(
        static=True, default="2-norm-squared"
    )
    quality_function_centrality: Literal["none", "log", "reciprocal", "cubed-reciprocal"] = eqx.field(
        static=True, default="none"
    )
    quality_function_balancing_term: Literal["none", "cubic"] = eqx.field(static=True, default="none")
    quality_function_max_section_steps: int = eqx.field(static=True, default=8)
    mu_allow_fast_monotone_decrease: bool = eqx.field(static=True, default=True)
    mehrotra_algorithm: bool = eqx.field(static=True, default=False)
    bound_mult_init_method: Literal["constant", "mu-based"] = eqx.field(static=True, default="constant")
    warm_start_init_point: bool = eqx.field(static=True, default=False)
    fixed_variable_treatment: Literal["make_parameter", "make_parameter_nodual", "relax_bounds"] = eqx.field(
        static=True, default="make_parameter"
    )
    honor_original_bounds: bool = eqx.field(static=True, default=False)
    nlp_scaling_method: Literal["gradient-based", "user-scaling", "none"] = eqx.field(
        static=True, default="gradient-based"
    )
    alpha_for_y: Literal["primal", "bound-mult", "min", "max", "full", "primal-and-full", "dual-and-full"] = eqx.field(
        static=True, default="primal"
    )
    accept_every_trial_step: bool = eqx.field(static=True, default=False)
    recalc_y: bool = eqx.field(static=True, default=False)
    expect_infeasible_problem: bool = eqx.field(static=True, default=False)
    start_with_resto: bool = eqx.field(static=True, default=False)
    hessian_approximation: Literal["exact", "limited-memory"] = eqx.field(static=True, default="exact")
    limited_memory_update_type: Literal["bfgs", "sr1"] = eqx.field(static=True, default="bfgs")
    limited_memory_initialization: Literal["scalar1", "scalar2", "scalar3", "scalar4", "constant"] = eqx.field(
        static=True, default="scalar1"
    )
    limited_memory_max_history: int = eqx.field(static=True, default=6)
    perturb_always_cd: bool = eqx.field(static=True, default=False)
    inf_pr_output: Literal["original", "internal"] = eqx.field(static=True, default="original")


@functools.lru_cache(maxsize=256)
def settled(numbers: Numbers, choices: Choices) -> tuple[Numbers, Choices]:
    """What to start by: the numbers for a warm start in the place of those for a cold one where that was chosen.

    A cold and a warm start are then one program, unless bound multipliers are to be those of a target, which is all that is left
    of the choice. Estimates of row multipliers, which a warm start does without, are too large for a largest of zero.
    """
    names = "bound_push", "bound_frac", "slack_bound_push", "slack_bound_frac"
    given, default = vars(numbers), Numbers()
    others = {f"warm_start_{name}": getattr(default, f"warm_start_{name}") for name in names}
    if not choices.warm_start_init_point:
        return Numbers(**(given | others)), choices
    own = {name: given[f"warm_start_{name}"] for name in names}
    numbers = Numbers(**(given | own | others | {"constr_mult_init_max": 0.0}))
    return numbers, dataclasses.replace(choices, warm_start_init_point=numbers.warm_start_target_mu > 0)
