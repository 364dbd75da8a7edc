"""The registry of options: completeness, validation, aliases, linked defaults, warnings, and the generated page."""

import dataclasses
import math
import pathlib
import typing
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from pounce import _option_table as table, options as module
from pounce._interior.options import NUMBER_NAMES, Choices, Numbers
from pounce.options import OPTIONS, OptionError, OptionSpec, check_option, split_options
from pounce.options.__main__ import main
from pounce.options._page import option_table_markdown


PAGE = pathlib.Path(__file__).parent.parent / "docs" / "options.md"
CHOICE_NAMES = tuple(field.name for field in dataclasses.fields(Choices))
HONOURED_NAMES = NUMBER_NAMES + CHOICE_NAMES
NUMERIC = [name for name, spec in OPTIONS.items() if spec.kind in ("number", "integer")]
INERT = [name for name, spec in OPTIONS.items() if spec.effect == "inert"]

# The names that option sets written for Ipopt and its relatives use.
EXPECTED = """
tol max_iter max_wall_time max_cpu_time dual_inf_tol constr_viol_tol compl_inf_tol acceptable_tol acceptable_iter
acceptable_dual_inf_tol acceptable_constr_viol_tol acceptable_compl_inf_tol acceptable_obj_change_tol
diverging_iterates_tol s_max mu_target
mu_strategy mu_oracle mu_init mu_min mu_max mu_max_fact barrier_tol_factor mu_linear_decrease_factor
mu_superlinear_decrease_power mu_allow_fast_monotone_decrease tau_min sigma_max sigma_min quality_function_norm_type
quality_function_centrality quality_function_balancing_term quality_function_max_section_steps
quality_function_section_sigma_tol quality_function_section_qf_tol adaptive_mu_globalization
adaptive_mu_kkterror_red_iters adaptive_mu_kkterror_red_fact adaptive_mu_monotone_init_factor
adaptive_mu_restore_previous_iterate filter_margin_fact filter_max_margin mehrotra_algorithm
bound_push bound_frac slack_bound_push slack_bound_frac bound_mult_init_val bound_mult_init_method constr_mult_init_max
least_square_init_primal
nlp_lower_bound_inf nlp_upper_bound_inf fixed_variable_treatment bound_relax_factor honor_original_bounds kappa_d
slack_move grad_f_constant jac_c_constant jac_d_constant hessian_constant num_linear_variables
line_search_method alpha_red_factor alpha_for_y accept_every_trial_step accept_after_max_steps tiny_step_tol
tiny_step_y_tol watchdog_shortened_iter_trigger watchdog_trial_iter_max theta_max_fact theta_min_fact eta_phi delta
s_phi s_theta gamma_phi gamma_theta alpha_min_frac max_soc soc_method kappa_soc obj_max_inc max_filter_resets
filter_reset_trigger kappa_sigma recalc_y recalc_y_feas_tol
expect_infeasible_problem start_with_resto required_infeasibility_reduction soft_resto_pderror_reduction_factor
max_soft_resto_iters max_resto_iter evaluate_orig_obj_at_resto_trial resto_penalty_parameter resto_proximity_weight
bound_mult_reset_threshold constr_mult_reset_threshold
hessian_approximation limited_memory_max_history limited_memory_update_type limited_memory_initialization
limited_memory_init_val limited_memory_init_val_min limited_memory_init_val_max limited_memory_max_skipping
first_hessian_perturbation min_hessian_perturbation max_hessian_perturbation perturb_inc_fact_first perturb_inc_fact
perturb_dec_fact jacobian_regularization_value jacobian_regularization_exponent perturb_always_cd neg_curv_test_tol
neg_curv_test_reg
linear_solver linear_system_scaling linear_scaling_on_demand min_refinement_steps max_refinement_steps
residual_ratio_max residual_ratio_singular residual_improvement_factor fast_step_computation
nlp_scaling_method nlp_scaling_max_gradient nlp_scaling_min_value nlp_scaling_obj_target_gradient
nlp_scaling_constr_target_gradient obj_scaling_factor
warm_start_init_point warm_start_bound_push warm_start_bound_frac warm_start_slack_bound_push
warm_start_slack_bound_frac warm_start_mult_bound_push warm_start_mult_init_max warm_start_target_mu
warm_start_recentering
print_level sb output_file file_print_level print_user_options print_frequency_iter print_frequency_time inf_pr_output
print_info_string timing_statistics print_timing_statistics
derivative_test derivative_test_perturbation derivative_test_tol derivative_test_print_all derivative_test_first_index
run_sens compute_red_hessian rh_eigendecomp sens_boundcheck sens_bound_eps sens_max_pdpert
algorithm sqp_max_iter sqp_tol sqp_constr_viol_tol sqp_dual_inf_tol sqp_hessian sqp_globalization
l1_exact_penalty_barrier l1_penalty_init l1_penalty_max l1_penalty_increase_factor l1_fallback_on_restoration_failure
presolve presolve_fbbt fbbt_tol fbbt_max_iter fbbt_max_constraints crossover qp_tau qp_reg qp_gondzio_corr qp_presolve
qp_hsde qp_equilibrate infeas_stationarity_tol infeas_viol_kappa infeas_max_streak primal_noise_floor_kappa
dual_inf_scale_kappa acceptable_progress_kappa kkt_fidelity_tol theta_max_adaptive_trigger theta_max_adaptive_factor
theta_max_adaptive_max_raises
solver_selection route_tol
alpha_for_y_tol gradient_approximation jacobian_approximation findiff_perturbation dependency_detector
dependency_detection_with_rhs check_derivatives_for_naninf least_square_init_duals constraint_violation_norm_type
magic_steps replace_bounds hessian_approximation_space limited_memory_aug_solver limited_memory_special_for_resto
skip_finalize_solution_call suppress_all_output debug_print_level point_perturbation_radius corrector_type
expect_infeasible_problem_ctol expect_infeasible_problem_ytol resto_failure_feasibility_threshold fixed_mu_oracle
warm_start_entire_iterate warm_start_same_structure n_sens_steps option_file_name hsllib pardisolib
""".split()


@pytest.fixture(autouse=True)
def _no_stray_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def assert_same(left: object, right: object) -> None:
    for field in dataclasses.fields(left):  # pyright: ignore[reportArgumentType]
        assert getattr(left, field.name) == getattr(right, field.name), field.name


def another_value(spec: OptionSpec) -> str | float:
    """A valid value that is not the default."""
    if spec.kind in ("string", "bool"):
        return next(value for value in spec.allowed or ("elsewhere",) if value != spec.default)
    values = (1, 2, 3) if spec.kind == "integer" else (0.25, 1.25, 3.0)
    return next(value for value in values if spec.contains(value) and value != spec.default)


class TestRegistry:
    def test_expected_names_exist(self):
        assert not set(EXPECTED) - set(OPTIONS)

    def test_table_and_fields_agree(self):
        listed = [name for rows in table.HONOURED.values() for name in rows]
        assert sorted(listed) == sorted(HONOURED_NAMES)
        assert {name for name, spec in OPTIONS.items() if spec.effect == "honoured"} == set(HONOURED_NAMES)

    def test_no_name_is_listed_twice(self):
        groups = (*table.HONOURED.values(), *table.DRIVER.values(), *(rows for _, rows in table.INERT.values()))
        names = [name for rows in groups for name in rows]
        assert len(names) == len(set(names)) == len(OPTIONS)

    def test_foreign_prefixes_shadow_nothing(self):
        assert not [name for name in OPTIONS if name.startswith(table.FOREIGN_PREFIXES)]

    def test_aliases_point_to_options(self):
        assert set(module.SCIPY_NAMES.values()) <= set(OPTIONS)
        assert not set(module.SCIPY_NAMES) & set(OPTIONS)

    def test_spec_is_consistent(self):
        for name, spec in OPTIONS.items():
            assert spec.name == name == name.lower()
            assert spec.group and spec.note
            assert spec.lower <= spec.upper
            if spec.kind in ("number", "integer"):
                assert not spec.allowed
                assert type(spec.default) is (int if spec.kind == "integer" else float)
            else:
                assert isinstance(spec.default, str)
                assert all(value == value.lower() for value in spec.allowed)
                assert not spec.allowed or spec.default in spec.allowed
                assert spec.kind != "bool" or spec.allowed == ("yes", "no")

    def test_default_is_valid(self):
        for name in set(OPTIONS) - {"mu_max"}:
            canonical, value = check_option(name, OPTIONS[name].default)
            assert (canonical, value) == (name, OPTIONS[name].default)
            assert type(value) is type(OPTIONS[name].default)

    def test_defaults_are_those_of_the_method(self):
        for name in NUMBER_NAMES:
            assert OPTIONS[name].default == getattr(Numbers(), name)
        for name in CHOICE_NAMES:
            default = getattr(Choices(), name)
            expected = {True: "yes", False: "no"}[default] if isinstance(default, bool) else default
            assert OPTIONS[name].default == expected

    def test_kinds_follow_annotations(self):
        for name, annotation in typing.get_type_hints(Choices).items():
            spec = OPTIONS[name]
            assert spec.kind == {bool: "bool", int: "integer"}.get(annotation, "string")
            if spec.kind == "string":
                assert spec.allowed == typing.get_args(annotation)

    def test_specs_are_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            OPTIONS["tol"].default = 1.0  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(TypeError):
            OPTIONS["tol"] = OPTIONS["tol"]  # pyright: ignore[reportIndexIssue]

    def test_interval(self):
        spec = OptionSpec("a", "number", 1.0, lower=0.0, upper=1.0, upper_open=True)
        assert spec.interval == "[0, 1)"
        assert spec.contains(0.0) and not spec.contains(1.0) and not spec.contains(math.nan)


class TestCheckOption:
    @pytest.mark.parametrize(
        "name, value, expected",
        [
            ("tol", 1e-6, ("tol", 1e-6)),
            ("tol", 1, ("tol", 1.0)),
            ("TOL", 1e-6, ("tol", 1e-6)),
            (b"tol", 1e-6, ("tol", 1e-6)),
            (np.str_("tol"), np.float32(0.5), ("tol", 0.5)),
            ("tol", np.float64(1e-6), ("tol", 1e-6)),
            ("tol", np.int64(1), ("tol", 1.0)),
            ("tol", np.array(1e-6), ("tol", 1e-6)),
            ("tol", jnp.asarray(0.5), ("tol", 0.5)),
            ("max_iter", 10, ("max_iter", 10)),
            ("max_iter", 100.0, ("max_iter", 100)),
            ("max_iter", np.float64(100.0), ("max_iter", 100)),
            ("max_iter", np.int32(7), ("max_iter", 7)),
            ("max_iter", 0, ("max_iter", 0)),
            ("accept_after_max_steps", -1, ("accept_after_max_steps", -1)),
            ("bound_frac", 0.5, ("bound_frac", 0.5)),
            ("max_wall_time", math.inf, ("max_wall_time", math.inf)),
            ("nlp_lower_bound_inf", -math.inf, ("nlp_lower_bound_inf", -math.inf)),
            ("obj_scaling_factor", -1, ("obj_scaling_factor", -1.0)),
            ("mu_strategy", "Adaptive", ("mu_strategy", "adaptive")),
            ("Mu_Strategy", b"ADAPTIVE", ("mu_strategy", "adaptive")),
            ("mu_strategy", np.bytes_(b"monotone"), ("mu_strategy", "monotone")),
            ("recalc_y", True, ("recalc_y", "yes")),
            ("recalc_y", np.bool_(False), ("recalc_y", "no")),
            ("recalc_y", "YES", ("recalc_y", "yes")),
            ("sb", True, ("sb", "yes")),
            ("output_file", "Log.TXT", ("output_file", "Log.TXT")),
            ("linear_solver", "MA57", ("linear_solver", "ma57")),
            ("linear_solver", "null-space", ("linear_solver", "null-space")),
            ("ma57_pivtol", 1e-3, ("ma57_pivtol", 1e-3)),
            ("MUMPS_mem_percent", 2000, ("mumps_mem_percent", 2000)),
            ("pardiso_iterative", True, ("pardiso_iterative", "yes")),
            ("feral_whatever", "x", ("feral_whatever", "x")),
            ("resto.tol", 1, ("resto.tol", 1.0)),
            ("Resto.Theta_Max_Fact", 1e8, ("resto.theta_max_fact", 1e8)),
            ("resto.maxiter", 5, ("resto.max_iter", 5)),
        ],
    )
    def test_accepted(self, name, value, expected):
        checked = check_option(name, value)
        assert checked == expected
        assert type(checked[1]) is type(expected[1])

    @pytest.mark.parametrize(
        "name, value, expected",
        [
            ("maxiter", 50, ("max_iter", 50)),
            ("gtol", 1e-5, ("tol", 1e-5)),
            ("ftol", 1e-5, ("tol", 1e-5)),
            ("XTOL", 1e-5, ("tol", 1e-5)),
            ("disp", True, ("print_level", 5)),
            ("disp", False, ("print_level", 0)),
            ("disp", np.True_, ("print_level", 5)),
            ("disp", 3, ("print_level", 3)),
            ("iprint", -1, ("print_level", 0)),
            ("iprint", 4, ("print_level", 4)),
            ("iprint", 101, ("print_level", 12)),
            ("maxcor", 20, ("limited_memory_max_history", 20)),
        ],
    )
    def test_scipy_names(self, name, value, expected):
        assert check_option(name, value) == expected

    @pytest.mark.parametrize(
        "name, value, parts",
        [
            ("max_iterr", 5, ['Unknown option "max_iterr"', "max_iter"]),
            ("MaxIters", 5, ['Unknown option "MaxIters"', "max_iter"]),
            ("resto.tool", 5, ['Unknown option "resto.tool"', "tol"]),
            ("qqqqqqqq", 5, ['Unknown option "qqqqqqqq"', "lists the names"]),
            ("", 5, ['Unknown option ""']),
            ("tol", "small", ['"tol" is not a string option', "a number in (0, inf)", "'small'"]),
            ("tol", True, ['"tol" is not a yes/no option']),
            ("tol", None, ['"tol" takes a number', "None"]),
            ("tol", [1.0], ['"tol" takes a number', "[1.0]"]),
            ("tol", np.ones(2), ['"tol" takes a number']),
            ("tol", 1j, ['"tol" takes a number']),
            ("max_iter", 2.5, ['"max_iter" is not a numeric option', "an integer in [0, inf)", "2.5"]),
            ("max_iter", "ten", ['"max_iter" is not a string option']),
            ("mu_strategy", 1, ['"mu_strategy" is not an integer option', '"monotone", "adaptive"']),
            ("mu_strategy", 1.0, ['"mu_strategy" is not a numeric option']),
            ("mu_strategy", "greedy", ['Invalid value "greedy"', "mu_strategy", '"monotone", "adaptive"']),
            ("mu_strategy", True, ['Invalid value "yes"']),
            ("recalc_y", "maybe", ['Invalid value "maybe"', '"yes", "no"']),
            ("recalc_y", 1, ['"recalc_y" is not an integer option', '"yes", "no"']),
            ("linear_solver", "ma99", ['Invalid value "ma99"', "condensed"]),
            ("output_file", 3, ['"output_file" is not an integer option', "text"]),
            ("derivative_test", "third-order", ['Invalid value "third-order"', "only-second-order"]),
            ("ma57_pivtol", [1], ['Invalid value "[1]"', "ma57_pivtol"]),
            ("ma57_pivtol", math.nan, ['Invalid value "nan"']),
            ("resto.mu_strategy", "adaptive", ["resto.mu_strategy", "only numbers"]),
            ("resto.print_level", 3, ["only numbers"]),
            ("disp", "loud", ['"print_level" is not a string option']),
        ],
    )
    def test_refused(self, name, value, parts):
        with pytest.raises(OptionError) as caught:
            check_option(name, value)
        for part in parts:
            assert part in str(caught.value)

    @pytest.mark.parametrize(
        "name, value, limits",
        [
            ("tol", 0.0, "(0, inf)"),
            ("tol", -1, "(0, inf)"),
            ("tol", math.nan, "(0, inf)"),
            ("tol", np.float64("nan"), "(0, inf)"),
            ("obj_scaling_factor", math.nan, "(-inf, inf)"),
            ("max_iter", -1, "[0, inf)"),
            ("max_iter", math.nan, "[0, inf)"),
            ("max_iter", math.inf, "[0, inf) of 32-bit integers"),
            ("max_iter", 2**31, "[0, inf) of 32-bit integers"),
            ("max_iter", -1.0, "[0, inf)"),
            ("bound_push", 0, "(0, inf)"),
            ("bound_frac", 0, "(0, 0.5]"),
            ("bound_frac", 0.6, "(0, 0.5]"),
            ("tau_min", 1, "(0, 1)"),
            ("tau_min", 0, "(0, 1)"),
            ("mu_max", -1.0, "(0, inf)"),
            ("mu_superlinear_decrease_power", 2.0, "(1, 2)"),
            ("eta_phi", 0.5, "(0, 0.5)"),
            ("s_phi", 1.0, "(1, inf)"),
            ("required_infeasibility_reduction", 1.0, "[0, 1)"),
            ("accept_after_max_steps", -2, "[-1, inf)"),
            ("limited_memory_max_history", -1, "[0, inf)"),
            ("print_level", 13, "[0, 12]"),
            ("max_wall_time", 0.0, "(0, inf)"),
            ("soc_method", 2, "[0, 1]"),
            ("resto.tol", -1.0, "(0, inf)"),
            ("maxiter", -3, "[0, inf)"),
        ],
    )
    def test_out_of_range(self, name, value, limits):
        with pytest.raises(OptionError) as caught:
            check_option(name, value)
        assert "out of range" in str(caught.value) and limits in str(caught.value)

    def test_integer_beyond_double_precision(self):
        with pytest.raises(OptionError, match="out of range"):
            check_option("tol", 10**400)

    @pytest.mark.parametrize("kind", [OptionError, ValueError, RuntimeError])
    def test_error_is_caught_by_either_habit(self, kind):
        with pytest.raises(kind):
            check_option("tol", -1.0)

    def test_ends_of_ranges(self):
        for name in NUMERIC:
            spec = OPTIONS[name]
            for end, is_open in ((spec.lower, spec.lower_open), (spec.upper, spec.upper_open)):
                if math.isinf(end):
                    continue
                if is_open:
                    with pytest.raises(OptionError, match="out of range"):
                        check_option(name, end)
                else:
                    assert check_option(name, end) == (name, end)


class TestSplitOptions:
    @pytest.mark.parametrize("options", [None, {}, {"tol": None, "mu_strategy": None}])
    def test_nothing_set(self, options):
        result = split_options(options)
        assert_same(result.numbers, Numbers())
        assert_same(result.choices, Choices())
        assert result.linear_solver == "auto"
        assert result.resto == {} and result.given == {}
        expected = {name for name, spec in OPTIONS.items() if spec.effect == "driver"} - {"linear_solver"}
        assert set(result.driver) == expected
        assert result.driver["print_level"] == 5
        assert result.driver["max_wall_time"] == 1e20
        assert result.driver["sb"] is False
        assert result.driver["solver_selection"] == "auto"

    def test_each_option_reaches_its_place(self):
        result = split_options(
            {
                "TOL": 1,
                "max_iter": 50.0,
                "mu_strategy": "adaptive",
                "recalc_y": True,
                "mu_allow_fast_monotone_decrease": "no",
                "limited_memory_max_history": 10.0,
                "inf_pr_output": "internal",
                "print_level": 0,
                "sb": "yes",
                "max_cpu_time": 5,
                "linear_solver": "LU",
                "resto.tol": 1e-3,
                "resto.max_iter": 7,
            }
        )
        numbers, choices = result.numbers, result.choices
        assert (numbers.tol, numbers.max_iter) == (1.0, 50.0)
        assert type(numbers.tol) is type(numbers.max_iter) is float
        assert (choices.mu_strategy, choices.recalc_y, choices.mu_allow_fast_monotone_decrease) == (
            "adaptive",
            True,
            False,
        )
        assert choices.limited_memory_max_history == 10 and type(choices.limited_memory_max_history) is int
        assert choices.inf_pr_output == "internal"
        assert (result.driver["print_level"], result.driver["sb"], result.driver["max_cpu_time"]) == (0, True, 5.0)
        assert result.linear_solver == "lu"
        assert result.resto == {"tol": 1e-3, "max_iter": 7.0}
        assert result.given["tol"] == 1.0 and result.given["recalc_y"] == "yes" and "resto.tol" in result.given

    def test_every_number_is_settable(self):
        for name in NUMBER_NAMES:
            value = another_value(OPTIONS[name])
            assert getattr(split_options({name: value}).numbers, name) == value
            assert split_options({f"resto.{name}": value}).resto == {name: value}

    def test_every_choice_is_settable(self):
        for name in CHOICE_NAMES:
            for value in OPTIONS[name].allowed or (3,):
                expected = value == "yes" if OPTIONS[name].kind == "bool" else value
                assert getattr(split_options({name: value}).choices, name) == expected

    @pytest.mark.parametrize("options", [[("tol", 1e-6)], "tol", 3, {"tol"}])
    def test_not_a_mapping(self, options):
        with pytest.raises(TypeError, match="`options` must be a mapping"):
            split_options(options)

    def test_bad_entries_raise(self):
        with pytest.raises(OptionError, match="Unknown option"):
            split_options({"tol": 1e-6, "tool": 1})
        with pytest.raises(OptionError, match="out of range"):
            split_options({"tol": -1})

    def test_name_outranks_alias_in_any_order(self):
        assert split_options({"tol": 1e-3, "ftol": 1e-9}).numbers.tol == 1e-3
        assert split_options({"ftol": 1e-9, "tol": 1e-3}).numbers.tol == 1e-3
        assert split_options({"ftol": 1e-9, "gtol": 1e-5}).numbers.tol == 1e-5

    def test_caller_defaults_give_way(self):
        assert split_options(None, {"print_level": 0}).driver["print_level"] == 0
        assert split_options({"disp": True}, {"print_level": 0}).driver["print_level"] == 5
        result = split_options({"tol": 1e-5}, {"tol": 1e-3, "max_iter": 4})
        assert (result.numbers.tol, result.numbers.max_iter) == (1e-5, 4.0)
        assert result.given == {"tol": 1e-5}

    def test_result_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            split_options(None).linear_solver = "lu"  # pyright: ignore[reportAttributeAccessIssue]

    def test_options_are_not_modified(self):
        options = {"ftol": 1e-3, "hessian_approximation": "limited-memory"}
        before = dict(options)
        split_options(options)
        assert options == before


class TestLinkedDefaults:
    def test_limited_memory(self):
        choices = split_options({"hessian_approximation": "limited-memory"}).choices
        assert (choices.mu_strategy, choices.recalc_y) == ("adaptive", True)

    def test_limited_memory_as_caller_default(self):
        choices = split_options(None, {"hessian_approximation": "limited-memory"}).choices
        assert (choices.mu_strategy, choices.recalc_y) == ("adaptive", True)

    def test_limited_memory_keeps_what_is_set(self):
        options = {"hessian_approximation": "limited-memory", "mu_strategy": "monotone", "recalc_y": "no"}
        choices = split_options(options).choices
        assert (choices.mu_strategy, choices.recalc_y) == ("monotone", False)

    def test_mehrotra(self):
        result = split_options({"mehrotra_algorithm": "yes"})
        numbers, choices = result.numbers, result.choices
        assert choices.mehrotra_algorithm is True
        assert (choices.mu_strategy, choices.mu_oracle) == ("adaptive", "probing")
        assert choices.adaptive_mu_globalization == "never-monotone-mode"
        assert choices.accept_every_trial_step is True
        assert choices.alpha_for_y == "primal"
        assert (numbers.bound_push, numbers.bound_frac) == (10.0, 0.2)
        assert (numbers.slack_bound_push, numbers.slack_bound_frac) == (10.0, 0.2)
        assert (numbers.bound_mult_init_val, numbers.constr_mult_init_max) == (10.0, 0.0)
        assert set(result.given) == {"mehrotra_algorithm"}

    def test_mehrotra_keeps_what_is_set(self):
        result = split_options(
            {"mehrotra_algorithm": True, "bound_push": 0.5, "mu_oracle": "loqo", "alpha_for_y": "full"}
        )
        assert (result.numbers.bound_push, result.numbers.slack_bound_push) == (0.5, 0.5)
        assert (result.choices.mu_oracle, result.choices.alpha_for_y) == ("loqo", "full")
        assert result.choices.mu_strategy == "adaptive"

    def test_no_link_when_switched_off(self):
        assert_same(split_options({"mehrotra_algorithm": "no"}).choices, Choices())
        assert_same(split_options({"hessian_approximation": "exact"}).choices, Choices())

    def test_linked_values_are_valid(self):
        for values in (module.QUASI_NEWTON_DEFAULTS, module.MEHROTRA_DEFAULTS):
            for name, value in values.items():
                assert check_option(name, value) == (name, value)

    @pytest.mark.parametrize("leader, stem", [("bound_push", "push"), ("bound_frac", "frac")])
    def test_pushes_follow(self, leader, stem):
        followers = (f"slack_bound_{stem}", f"warm_start_bound_{stem}", f"warm_start_slack_bound_{stem}")
        numbers = split_options({leader: 0.3}).numbers
        assert [getattr(numbers, name) for name in followers] == [0.3, 0.3, 0.3]
        for name in followers:
            numbers = split_options({leader: 0.3, name: 0.1}).numbers
            assert getattr(numbers, name) == 0.1 and getattr(numbers, leader) == 0.3
            assert getattr(split_options({name: 0.1}).numbers, leader) == getattr(Numbers(), leader)


class TestWarnings:
    def test_one_warning_names_all_without_effect(self):
        with pytest.warns(UserWarning) as caught:
            split_options({"point_perturbation_radius": 1.0, "ma57_pivtol": 1e-4, "sens_boundcheck": True, "tol": 1e-6})
        assert len(caught) == 1
        text = str(caught[0].message)
        assert all(name in text for name in ("point_perturbation_radius", "ma57_pivtol", "sens_boundcheck"))
        assert "tol," not in text.replace("ma57_pivtol,", "")
        assert caught[0].filename == __file__

    def test_stacklevel_reaches_further_out(self):
        def door():
            return split_options({"presolve": "yes"}, stacklevel=3)

        with pytest.warns(UserWarning, match="presolve") as caught:
            door()
        assert caught[0].lineno > door.__code__.co_firstlineno + 1

    def test_default_of_inert_option_is_silent(self):
        for name in INERT:
            split_options({name: OPTIONS[name].default})

    def test_other_value_of_inert_option_warns(self):
        for name in INERT:
            with pytest.warns(UserWarning, match=name):
                split_options({name: another_value(OPTIONS[name])})

    @pytest.mark.parametrize("name", [prefix + "u" for prefix in table.FOREIGN_PREFIXES])
    def test_foreign_knobs_always_warn(self, name):
        with pytest.warns(UserWarning, match=name):
            split_options({name: 1})

    @pytest.mark.parametrize(
        "solver",
        "feral ma27 ma57 ma77 ma86 ma97 mumps pardiso pardisomkl spral wsmp custom".split(),
    )
    def test_foreign_linear_solver_is_auto_with_one_warning(self, solver):
        with pytest.warns(UserWarning, match=f'linear_solver="{solver}"') as caught:
            result = split_options({"linear_solver": solver})
        assert len(caught) == 1
        assert result.linear_solver == "auto"
        assert result.given == {"linear_solver": solver}

    @pytest.mark.parametrize("solver", ["auto", "condensed", "null-space", "lu"])
    def test_own_linear_solvers_are_silent(self, solver):
        assert split_options({"linear_solver": solver}).linear_solver == solver


class TestPage:
    def test_page_is_up_to_date(self):
        advice = "run `python -m pounce.options > docs/options.md`"
        assert PAGE.read_text(encoding="utf-8") == option_table_markdown(), advice

    def test_main_prints_the_page(self, capsys):
        main()
        assert capsys.readouterr().out == option_table_markdown()

    def test_every_option_is_on_the_page(self):
        page = option_table_markdown()
        assert not [name for name in OPTIONS if f"`{name}`" not in page]
        assert not [prefix for prefix in table.FOREIGN_PREFIXES if f"`{prefix}*`" not in page]

    def test_rows(self):
        page = option_table_markdown()
        assert "| `tol` | `1e-8` | number in (0, inf) |" in page
        assert "| `max_iter` | `3000` | integer in [0, inf) |" in page
        assert "| `mu_max` | unset |" in page
        assert "| `mu_strategy` | `monotone` | `monotone`, `adaptive` |" in page
        assert "| `max_resto_iter` | `3e6` |" in page

    def test_reasons_are_given(self):
        page = option_table_markdown().split("## Accepted, but without effect")[1]
        for reason, rows in table.INERT.values():
            assert reason in page
            assert all(f"`{name}`" in page for name in rows)
