"""All checks, in the order in which causes are named when several are found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType

from fanin.doctor import blocked, data, output, parameters, signals, targets, training, units
from fanin.doctor.facts import Facts
from fanin.doctor.suspicions import Suspicion

__all__ = ["CHECKS", "Check"]

Find = Callable[[Facts], Iterator[Suspicion]]


@dataclass(frozen=True)
class Check:
    """One thing that may be wrong with a model's start.

    Attributes:
        headline: What it is called, for people.
        find: Looks for it.
        cause: Why it keeps a network from training.
        symptom: Whether it is what a cause looks like further on: where another cause is found, it belongs to that.
    """

    headline: str
    find: Find
    cause: str
    symptom: bool = False

    @property
    def code(self) -> str:
        """Its name in findings and in the documentation."""
        return self.find.__name__.replace("_", "-")


_ALL = (
    # What reaches the model at all.
    Check("Inputs or targets are not finite", data.non_finite_inputs,
          "One NaN in a batch makes every gradient NaN, and with the first step all weights."),
    Check("All inputs are the same", data.constant_inputs,
          "A model that always sees the same can only learn the mean answer."),
    # What is trained at all.
    Check("Layers are not registered", training.unregistered_parameters,
          "An optimizer trains model.parameters(), and these are not among them: they stay as they were drawn."),
    Check("Parameters are frozen", training.frozen_parameters, "Frozen parameters stay as they are."),
    Check("The optimizer lacks parameters", training.forgotten_parameters,
          "What the optimizer was not given stays as it was drawn."),
    Check("A step cuts the gradient", blocked.gradient_blocked,
          "What lies before this step gets no gradient from what is behind it, so it is not trained for that."),
    # What the loss gets to see.
    Check("Outputs and targets meet crosswise", output.broadcast_loss,
          "Every output is pulled towards every target, so the best answer is their mean, whatever the input."),
    Check("A softmax over one unit", output.one_unit_softmax,
          "Shares sum to 1, so the only share is 1: the loss does not depend on the model."),
    Check("A softmax over the wrong axis", output.softmax_axis,
          "Over the batch, examples compete with each other instead of classes; over one place the share is 1."),
    Check("A softmax between layers", output.hidden_softmax,
          "Shares of 1 are small numbers that hardly differ, and each unit is pushed down by all others."),
    Check("The output's activation does not fit the loss", output.output_activation,
          "The outputs cannot take the values that the loss asks for, and where the activation is flat no gradient "
          "comes back."),
    Check("Softmax or sigmoid twice", output.double_softmax,
          "The second one sees numbers between 0 and 1 only: its shares can never be far from equal, and gradients "
          "are small."),
    Check("Logits for a loss of probabilities", output.logits_into_probabilities,
          "The loss takes logarithms of numbers that are no probabilities, or clips them, and its gradient is wrong."),
    Check("Targets that no output can reach", targets.targets_out_of_range,
          "The output's activation is bounded, or the loss is made for shares: the rest is never reached."),
    Check("The loss does not fit the task", output.wrong_loss,
          "Training makes the loss small, whatever that does to the answers: it has to be least for the right ones."),
    # Weights that cannot be trained as they are.
    Check("Weights are not finite", parameters.non_finite_weights, "Everything computed from NaN is NaN."),
    Check("Weights were never initialised", parameters.uninitialised_weights,
          "Memory holds what was there before: zeros, denormals or huge numbers."),
    Check("Weights are zero", parameters.zero_weights,
          "With weights of 0 nothing of the input gets through, and no gradient gets back, or all units get the same."),
    Check("Units are the same", parameters.identical_units,
          "Units that start the same get the same gradient and stay the same: symmetry has to be broken."),
    Check("Layers share random numbers", parameters.repeated_weights,
          "A seed that is set again before each layer makes layers that are not independent."),
    Check("Batch normalisation of one number", signals.batch_norm_of_one,
          "A number minus its own mean is 0."),
    Check("Normalisation leaves nothing", signals.misplaced_norm,
          "A number over its own size is 1, and the mean of what was given mean 0 is 0, whatever the input."),
    Check("Nearly everything is dropped", signals.heavy_dropout, "What is left is mostly noise."),
    Check("No activation between layers", signals.linear_stack,
          "Linear layers in a row are one linear layer."),
    Check("Evaluation mode", training.eval_mode,
          "Dropout is off, and batch normalisation uses averages that do not fit yet."),
    # Scales.
    Check("Inputs are not scaled", data.unscaled_inputs,
          "Large inputs saturate or blow up the first layer; features of very different sizes make a loss that is "
          "steep in some directions and flat in others."),
    Check("Targets are not scaled", data.unscaled_targets,
          "The output layer has to grow by orders of magnitude before the rest has anything to do."),
    Check("A tied table on the wrong scale", parameters.tied_scale,
          "As the output's weight a table makes logits as large as its rows: they have to be small."),
    Check("Weights are too large", parameters.weights_too_large,
          "Each such layer enlarges the signal: it explodes or saturates, and so does the gradient."),
    Check("Weights are too small", parameters.weights_too_small,
          "Each such layer shrinks the signal and the gradient, until nothing is left of the input."),
    Check("The learning rate is too large", training.learning_rate_too_large,
          "Steps are longer than the loss's valley is wide."),
    Check("The learning rate is too small", training.learning_rate_too_small,
          "Steps are so short that nothing moves."),
    # What causes look like further on.
    Check("Numbers are not finite", signals.non_finite_signal,
          "What is not finite, forwards or backwards, stays so.", symptom=True),
    Check("Units are saturated", units.saturated_units,
          "At its bounds an activation has no slope, and sends no gradient back.", symptom=True),
    Check("Units are dead", units.dead_units,
          "A unit that is off or in a flat part for every example has hardly a gradient, and stays so.", symptom=True),
    Check("The signal explodes", signals.exploding_signal, "Each layer, or each step in time, enlarges the signal.",
          symptom=True),
    Check("The signal vanishes", signals.vanishing_signal, "Each layer shrinks the signal.", symptom=True),
    Check("The gradient explodes", signals.exploding_gradient, "Each layer enlarges the gradient.", symptom=True),
    Check("The gradient vanishes", signals.vanishing_gradient,
          "Each layer, or each step in time, shrinks the gradient.", symptom=True),
    Check("Inputs can no longer be told apart", signals.collapsed_inputs,
          "What all layers see is nearly the same for every example.", symptom=True),
    Check("The start is worse than guessing", training.imbalanced_start,
          "The first steps are spent on unlearning.", symptom=True),
    Check("The loss is lost", training.divergence, "Steps lead uphill.", symptom=True),
    Check("The loss jumps", training.oscillation, "Steps go too far.", symptom=True),
    Check("Examples are mixed up", data.mixed_examples,
          "What is learned of one example is spoiled by the others, which come together by chance.", symptom=True),
    Check("Nothing is learned", training.plateau, "No step leads anywhere.", symptom=True),
    # Good to know.
    Check("The loss is a sum", output.sum_reduction, "The learning rate then depends on the size of the batch."),
    Check("All targets are the same", data.constant_targets, "There is nothing to learn in this batch."),
    Check("Parameters are not used", training.unused_parameters, "What is not used is not trained."),
)  # fmt: skip

CHECKS = MappingProxyType({check.code: check for check in _ALL})
"""By code, in the order of causes."""
