"""Annealed importance sampling against exact answers: linear decoders, and a sum over a grid."""

import math

import pytest
import torch
from linear_models import (
    axis_aligned,
    exact,
    generator,
    perturbed,
    real_images,
    standard_error,
    synthetic,
    within,
)

from vaebench.evaluation import annealing
from vaebench.evaluation.annealing import (
    Annealed,
    Annealing,
    annealed_bound,
    bidirectional_bounds,
    temperatures,
)
from vaebench.evaluation.importance import importance_bound, log_weights
from vaebench.evaluation.linear import as_vae
from vaebench.grid.cell import Cell
from vaebench.model.posterior import gaussian_log_prob
from vaebench.model.sampling import simulate
from vaebench.model.vae import VAE
from vaebench.truth.ppca import LinearVAE


def importance_agrees(vae, model, x, k=5_000):
    result = importance_bound(log_weights(vae, x, k, generator()))
    errors = ((1 / result.effective_share - 1) / k).sqrt()
    assert float(errors.max()) < 0.1
    return within(result.bound - exact(model, x), errors)


def brackets(bracket, truth):
    """Exact answer inside both bounds within 3 standard errors, and the gap below half a nat."""
    below, above = truth - bracket.forward.bound, bracket.reverse.bound - truth
    assert float(below.mean()) > -3 * standard_error(below)
    assert float(above.mean()) > -3 * standard_error(above)
    assert float(bracket.gap.mean()) < 0.5


class TestLinear:
    def test_it_agrees_with_the_truth_whatever_the_encoder(self):
        model = axis_aligned(synthetic(0.3))
        vae = as_vae(perturbed(model))
        x, _ = simulate(vae, 10, generator(2))
        assert importance_agrees(vae, model, x)
        result = annealed_bound(vae, x, Annealing(24, 400, 2), generator())
        assert result.log_weights.shape == (10, 24)
        assert result.log_weights.dtype == torch.float64
        assert float(result.standard_error.max()) < 0.6
        assert within(result.bound - exact(model, x), result.standard_error)
        assert 0.55 < float(result.acceptance.mean()) < 0.75

    def test_the_truth_lies_between_both_directions(self):
        model = synthetic(0.3)
        vae = as_vae(model)
        x, z = simulate(vae, 12, generator(2))
        bracket = bidirectional_bounds(vae, x, z, Annealing(16, 400, 2), generator())
        brackets(bracket, exact(model, x))
        assert 0.5 < float(bracket.reverse.acceptance.mean()) < 0.75

    def test_few_temperatures_open_the_bracket_on_both_sides(self):
        model = synthetic(0.3)
        vae = as_vae(model)
        x, z = simulate(vae, 30, generator(2))
        bracket = bidirectional_bounds(vae, x, z, Annealing(4, 10, 2), generator())
        truth = exact(model, x)
        below, above = truth - bracket.forward.bound, bracket.reverse.bound - truth
        assert float(below.mean()) > 1
        assert float(above.mean()) > 1
        assert float(bracket.gap.mean()) == pytest.approx(float((below + above).mean()))

    def test_trajectories_of_one_step_follow_the_path(self):
        """The prior alone misses these images by tens of nats."""
        model = synthetic(0.3)
        vae, seen = as_vae(model), []
        x, _ = simulate(vae, 6, generator(2))
        settings = Annealing(8, 200, 1)
        result = annealed_bound(vae, x, settings, generator(), lambda *counts: seen.append(counts))
        assert -2 < float((result.bound - exact(model, x)).mean()) < 0.5
        assert 0.55 < float(result.acceptance.mean()) < 0.75
        assert seen[-1][0] == seen[-1][1]

    def test_the_prior_scale_counts(self):
        model = axis_aligned(synthetic(0.15))
        vae = as_vae(model)
        vae.prior_scale.fill_(2.0)
        wider = axis_aligned(synthetic(0.30))
        x, z = simulate(vae, 10, generator(2))
        bracket = bidirectional_bounds(vae, x, z, Annealing(16, 300, 2), generator())
        error = exact(wider, x) - bracket.forward.bound
        assert abs(float(error.mean())) < 3 * standard_error(error) + 0.15
        brackets(bracket, exact(wider, x))

    @pytest.mark.mnist
    @pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist"])
    def test_real_images(self, dataset):
        spectrum, x = real_images(dataset)
        model = LinearVAE.optimum(spectrum, 10)
        vae = as_vae(perturbed(model), (1, 28, 28))
        assert importance_agrees(vae, model, x[:30])
        x = x[:6]
        result = annealed_bound(vae, x, Annealing(16, 400, 2), generator())
        assert within(result.bound - exact(model, x), result.standard_error)

    @pytest.mark.mnist
    @pytest.mark.parametrize(("dataset", "latent_dim"), [("mnist", 10), ("fashion-mnist", 5)])
    def test_images_simulated_from_a_model_of_real_ones(self, dataset, latent_dim):
        spectrum, _ = real_images(dataset)
        model = LinearVAE.optimum(spectrum, latent_dim)
        vae = as_vae(model, (1, 28, 28))
        x, z = simulate(vae, 8, generator(2))
        settings = Annealing(12, 500, 2)
        brackets(bidirectional_bounds(vae, x, z, settings, generator()), exact(model, x))


class TestAnyDecoder:
    @pytest.mark.parametrize("likelihood", ["bernoulli", "laplace"])
    def test_a_nonlinear_decoder_against_quadrature(self, likelihood):
        """One latent dimension: log p(x) by a fine sum over z."""
        design = {"likelihood": likelihood, "latent_dim": 1, "hidden": [16], "activation": "tanh"}
        cell = Cell.model_validate(design | ({"sigma": 0.1} if likelihood == "laplace" else {}))
        vae = VAE((cell,), (1, 3, 4), 2, (generator(4),), 0.1).double()
        with torch.no_grad():
            for parameter in vae.decoder.parameters():
                parameter *= 3
        x, z = simulate(vae, 10, generator(1))
        line = torch.linspace(-8, 8, 8_001, dtype=torch.float64)
        with torch.no_grad():
            joint = vae.decode(line.view(1, -1, 1, 1)).log_prob(x)[0]
            joint = joint + gaussian_log_prob(line.view(-1, 1, 1), 0.0, torch.ones(1))
        truth = torch.logsumexp(joint, 0) + math.log(16 / 8_000)
        bracket = bidirectional_bounds(vae, x, z, Annealing(32, 100, 3), generator())
        assert within(bracket.forward.bound - truth, bracket.forward.standard_error)
        brackets(bracket, truth)

    def test_one_distribution_is_simple_sampling(self, monkeypatch):
        monkeypatch.setattr(annealing, "codes_at_once", lambda _: 400)
        vae = as_vae(synthetic(0.05))
        x, z = simulate(vae, 4, generator(2))
        bracket = bidirectional_bounds(vae, x, z, Annealing(200, 1), generator())
        truth = exact(synthetic(0.05), x)
        assert within(bracket.forward.bound - truth, bracket.forward.standard_error, 4)
        # Backwards all chains start, and end, at the one exact sample of their own image.
        with torch.no_grad():
            at_code = vae.decode(z[None, None]).log_prob(x)[0, 0]
        torch.testing.assert_close(bracket.reverse.bound, at_code)

    def test_the_callers_model_stays_as_it_is(self):
        cell = Cell(likelihood="gaussian", latent_dim=2, hidden=(4,), sigma=0.5)
        vae = VAE((cell,), (1, 2, 3), 17, (generator(),), 0.5)
        annealed_bound(vae, torch.rand(2, 6), Annealing(2, 3, 1), generator())
        assert all(each.requires_grad and each.grad is None for each in vae.parameters())
        assert vae.prior_scale.dtype == torch.float32


class TestBookkeeping:
    @pytest.mark.parametrize("codes", [4, 12, 1_000], ids=["one image", "two", "all"])
    def test_blocks_and_progress(self, monkeypatch, codes):
        model = synthetic(0.05)
        vae = as_vae(model)
        x, z = simulate(vae, 5, generator(2))
        monkeypatch.setattr(annealing, "codes_at_once", lambda _: codes)
        seen = []
        settings, source = Annealing(6, 60, 2), generator()
        bracket = bidirectional_bounds(
            vae, x, z, settings, source, lambda *counts: seen.append(counts)
        )
        done, total = zip(*seen, strict=True)
        assert list(done) == list(range(1, total[-1] + 1))
        assert len(set(total)) == 1
        for annealed in (bracket.forward, bracket.reverse):
            # The images' own values differ by up to 7 nats: no image may take another's place.
            assert float((annealed.bound - exact(model, x)).abs().max()) < 2
            assert annealed.log_weights.shape == (5, 6)
            assert len(annealed.log_weights.flatten().unique()) == 30

    @pytest.mark.parametrize("codes", [1, 2, 3, 6, 7, 100])
    def test_chains_that_do_not_fit_at_once_run_one_group_after_another(self, monkeypatch, codes):
        monkeypatch.setattr(annealing, "codes_at_once", lambda _: codes)
        vae, x = as_vae(synthetic(0.15)), torch.zeros((2, 50))
        groups = []
        moved = annealing._move

        def noted(target, state, *rest):
            groups.append(len(state.z))
            return moved(target, state, *rest)

        monkeypatch.setattr(annealing, "_move", noted)
        weights = annealed_bound(vae, x, Annealing(7, 3, 1), generator()).log_weights
        assert weights.shape == (2, 7)
        assert len(weights.flatten().unique()) == 14
        assert set(groups[-1:]) <= set(range(1, min(codes, 7) + 1))

    def test_the_generator_is_the_only_chance(self):
        vae, x = as_vae(synthetic(0.15)), torch.zeros((2, 50))
        runs = [annealed_bound(vae, x, Annealing(2, 10, 1), generator(s)) for s in (0, 0, 1)]
        assert torch.equal(runs[0].log_weights, runs[1].log_weights)
        assert not torch.equal(runs[0].log_weights, runs[2].log_weights)

    def test_temperatures(self):
        for contrast in (1e-3, 1.0, 1e6):
            t = temperatures(50, contrast)
            assert len(t) == 51
            assert (float(t[0]), float(t[-1])) == (0.0, 1.0)
            assert bool((t.diff() > 0).all())
        # Equal steps of log(1 + contrast t), the shares of a Gaussian likelihood.
        steps = (1 + 1e6 * t).log().diff()
        torch.testing.assert_close(steps, steps.mean().expand(50))

    def test_bounds_errors_and_shares_of_given_weights(self):
        weights = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
        forward, reverse = (Annealed(weights, torch.ones(1), back) for back in (False, True))
        assert float(forward.bound) == pytest.approx(math.log(2))
        assert float(forward.standard_error) == pytest.approx(math.sqrt(2) / 2 / math.sqrt(2))
        assert float(forward.effective_share) == pytest.approx(16 / (2 * 10))
        assert float(reverse.bound) == pytest.approx(-math.log(2 / 3))
        assert float(reverse.effective_share) == pytest.approx(0.8)


class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"chains": 1}, "chains of annealing must be at least 2; got 1"),
            ({"distributions": 0}, "distributions of annealing must be at least 1; got 0"),
            ({"leapfrog_steps": 0}, "leapfrog_steps of annealing must be at least 1; got 0"),
        ],
    )
    def test_settings(self, settings, message):
        with pytest.raises(ValueError, match=message):
            Annealing(**settings)

    def test_images_and_codes(self):
        vae, settings = as_vae(synthetic()), Annealing(2, 2, 1)
        with pytest.raises(ValueError, match="at least one image; none was given"):
            annealed_bound(vae, torch.zeros((0, 50)), settings, generator())
        with pytest.raises(ValueError, match=r"rows of 50 pixels; got shape \(50,\): flatten"):
            annealed_bound(vae, torch.zeros(50), settings, generator())
        with pytest.raises(
            ValueError, match=r"shape \(2, 8\); got \(2, 7\): pass the codes that simulate"
        ):
            bidirectional_bounds(
                vae, torch.zeros((2, 50)), torch.zeros((2, 7)), settings, generator()
            )

    def test_a_delta_posterior(self):
        cell = Cell(posterior="delta", likelihood="gaussian", latent_dim=2)
        vae = VAE((cell,), (1, 2, 3), 17, (generator(),), 1.0)
        with pytest.raises(ValueError, match=r"got a delta posterior.*train with posterior"):
            annealed_bound(vae, torch.zeros((1, 6)), Annealing(2, 2, 1), generator())

    def test_a_diverged_decoder(self):
        vae = as_vae(synthetic())
        with torch.no_grad():
            vae.decoder.bias.fill_(torch.nan)
        with pytest.raises(ValueError, match="must be finite at codes from the prior"):
            annealed_bound(vae, torch.zeros((1, 50)), Annealing(2, 2, 1), generator())

    def test_a_collapsed_posterior_is_exact(self):
        model = LinearVAE.with_optimal_encoder(torch.zeros((6, 2)), torch.zeros(6), 0.1)
        x = torch.full((1, 6), 0.2, dtype=torch.float64)
        result = annealed_bound(as_vae(model), x, Annealing(2, 5, 2), generator())
        torch.testing.assert_close(result.bound, exact(model, x))
        assert float(result.standard_error) < 1e-9
