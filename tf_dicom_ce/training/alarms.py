"""When the sentinel warns, and of what."""

from collections.abc import Callable
from dataclasses import dataclass

from tf_dicom_ce.training.measures import Spans


@dataclass(frozen=True)
class Rule:
    """When to warn.

    Attributes:
        name: What is wrong, in a few words.
        holds: Measures of an epoch -> whether they look wrong.
        advice: What it means and what to try.
        epochs: How many epochs in a row it has to hold.
        after: Epochs at the start that do not count.
        from_start: Whether it must have held in every epoch of the run.
    """

    name: str
    holds: Callable[[dict[str, float]], bool]
    advice: str
    epochs: int
    after: int = 0
    from_start: bool = False


def rules(spans: Spans) -> tuple[Rule, ...]:
    """The rules; docs/monitoring.md tells from which runs their numbers are.

    Args:
        spans: Tags that D is to heed; () without tags.
    """
    return (
        Rule(
            "D has won",
            lambda m: m["accuracy"] >= 0.99 and m["adv"] >= 4.6,  # D(fake) about 0.01
            "D tells every true patch from every predicted one, so L_adv teaches F little. Try a "
            "lower --d-learning-rate, a higher --g-learning-rate, or --adversarial nonsaturating.",
            epochs=3,
        ),
        Rule(
            "F has collapsed",
            lambda m: m["diversity"] < 0.05,
            "F paints nearly the same patch for every image. Look at the inpainting panel. Try "
            "a higher --g-learning-rate, or a lower one if the loss jumps.",
            epochs=2,
            after=5,
        ),
        Rule(
            "D sees nothing",
            lambda m: abs(m["gap"]) < 0.1,
            "D has never yet told true patches from predicted ones, so L_adv teaches F nothing. "
            "Try a higher --d-learning-rate.",
            epochs=6,
            from_start=True,
        ),
        *(_ignored(name) for name, _, _ in spans),
    )


def _ignored(tag: str) -> Rule:
    return Rule(
        f"D ignores the tag '{tag}'",
        lambda m: m[f"sensitivity {tag}"] < 0.05 * m["c_rf"],
        "Another label hardly changes D's answer. Look in coverage.md whether the tag is mapped "
        "for enough images and says what they show; --no-use-dicom gives the control.",
        epochs=2,
        after=5,
    )


class Alarms:
    """Which warnings stand: each is told once, and again only after it has cleared.

    Args:
        rules: The rules.
    """

    def __init__(self, rules: tuple[Rule, ...]):
        self._rules = rules
        self._streaks = {rule.name: 0 for rule in rules}
        self._raised: set[str] = set()

    def update(self, epoch: int, measures: dict[str, float]) -> list[tuple[str, Rule]]:
        """Takes in an epoch (from 1); returns ("raised" or "cleared", rule) of what changed."""
        changed = []
        for rule in self._rules:
            if epoch <= rule.after:
                continue
            holds = rule.holds(measures)
            self._streaks[rule.name] = self._streaks[rule.name] + 1 if holds else 0
            streak = self._streaks[rule.name]
            due = streak >= rule.epochs and (not rule.from_start or streak == epoch)
            if due and rule.name not in self._raised:
                self._raised.add(rule.name)
                changed.append(("raised", rule))
            elif not holds and rule.name in self._raised:
                self._raised.remove(rule.name)
                changed.append(("cleared", rule))
        return changed

    @property
    def state(self) -> dict:
        """Plain values from which `update` goes on as if it had not been stopped."""
        return {"streaks": dict(self._streaks), "raised": sorted(self._raised)}

    @state.setter
    def state(self, state: dict) -> None:
        self._streaks |= state["streaks"]
        self._raised = set(state["raised"])
