"""The loop: players in lockstep, who act and learn, and begin the next episode when one is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from applications.td.element_rules import ElementRule
from applications.td.environments import bootstrap_discount
from applications.td.philox import Moment, Purpose
from applications.td.rules import Visit
from applications.td.traces import DenseTrace, LastTrace, Trace
from applications.td.worlds import Outcome

if TYPE_CHECKING:
    from applications.td.solve import LockstepAgents

# Random numbers are made for so many time steps at once; after them new episodes begin.
BLOCK = 32
# Leaving players out copies the others: worth it for so large a share of finished ones.
FINISHED_SHARE = 0.1

OF_A_PLAYER = ("agent", "episode", "time_step", "last", "over", "state", "action", "index")
OF_A_ROW = (
    "row", "place", "running", "returns", "coefficient", "trace_decay", "carry", "value_before",
)  # fmt: skip


class Chances(NamedTuple):
    """What luck has in store for a time step, one number per player each."""

    move: Float[Tensor, " players"]
    noise: Float[Tensor, " players"] | None
    explore: Float[Tensor, " players"]
    choose: Float[Tensor, " players"]


class Target(NamedTuple):
    """What the next state is worth, and with which entries an update would change that."""

    value: Float[Tensor, "*groups players"]
    entries: Int[Tensor, "players k"]
    features: Float[Tensor, "#players #k"]


class Play:
    """The agents that still play, in groups of the same luck, fewer and fewer.

    In prediction what an agent meets does not depend on what it has learnt, so that the settings
    are groups and a player is an agent in all of them, on one path. In control everybody goes its
    own way: one group, whose players are agents under some setting.

    With a dense trace the weights are copies of the players' rows, put back when they finish;
    otherwise a step touches few entries and works on the solver's own tensors. `offset` is where
    a player's row begins in `weights`, `place` where it begins in the solver's memory.
    """

    def __init__(self, solver: LockstepAgents, episodes: range) -> None:
        self.solver, self.world, self.rule = solver, solver.world, solver.method.rule
        self.first_episode = episodes.start
        rows = len(solver.coefficient)
        self.scores = solver.scores.new_full((len(episodes), rows), torch.nan)
        groups = len(solver.settings) if solver.method.predicts else 1
        row = torch.arange(rows, device=solver.coefficient.device).view(groups, -1)
        alive = ~solver.diverged[row]
        some = alive.any(0)
        self.row, self.running = row[:, some], alive[:, some]
        self.agent = self.row[0] % solver.problem.agents
        self.episode = torch.full_like(self.agent, episodes.start - 1)
        self.last = torch.full_like(self.agent, episodes.stop - 1)
        self.time_step = torch.zeros_like(self.agent)
        self.over = torch.zeros_like(self.agent, dtype=torch.bool)
        self.action = torch.zeros_like(self.agent)
        self.coefficient = solver.coefficient[self.row]
        self.trace_decay = solver.problem.discount * solver.lambda_[self.row]
        zero = torch.zeros_like(self.coefficient)
        self.returns, self.carry, self.value_before = zero, zero, zero
        self.trace = self._new_trace()
        self.plain_trace = self._new_trace() if self.rule.accumulates == "errors" else None
        entries = solver.weights.shape[1]
        self.place = (self.row * entries)[..., None]
        self.weights, self.memory, self.offset = solver.weights, solver.dense_memory, self.place
        if solver.dense:
            self.weights, self.memory = solver.weights[self.row], solver.dense_memory[:, self.row]
            self.offset = self._own_offset()
        moment = Moment(self.agent, self.episode + 1, self.time_step)
        self.state = self.world.start(solver.luck, moment)
        self.index, self.features = self.world.features(self.state)
        self._begin(torch.ones_like(self.over))

    def _new_trace(self) -> Trace:
        if self.solver.dense:
            return DenseTrace(self.solver.weights.shape[1], self.coefficient)
        return LastTrace(self.coefficient)

    def _own_offset(self) -> Int[Tensor, "groups players 1"]:
        """Where the players' rows begin in a copy of them."""
        number = torch.arange(self.row.numel(), device=self.row.device)
        return (number * self.solver.weights.shape[1]).view(*self.row.shape, 1)

    def _begin(self, who: Bool[Tensor, " players"]) -> None:
        """A new episode of these players."""
        luck = self.solver.luck
        self.episode = self.episode + who
        self.time_step = self.time_step.masked_fill(who, 0)
        self.over = self.over & ~who
        self.running = torch.where(who, self.solver.diverged_episode[self.row] == 0, self.running)
        self.returns = self.returns.masked_fill(who, 0)
        self.carry = self.carry.masked_fill(who, 0)
        for trace in (self.trace, self.plain_trace):
            if trace is not None:
                trace.scale((~who).to(self.coefficient.dtype)[None])
        moment = Moment(self.agent, self.episode, self.time_step)
        first = self.world.start(luck, moment)
        self.state = torch.where(who.view(-1, *[1] * (first.ndim - 1)), first, self.state)
        self.index, self.features = self.world.features(self.state)
        if self.world.actions > 1:
            explore, choose = (
                luck.uniforms(purpose, moment, 1)[0]
                for purpose in (Purpose.EXPLORE, Purpose.CHOOSE)
            )
            values = self._action_values(self.index, self.features)
            self.action = torch.where(who, self._choose(values, explore, choose), self.action)

    @property
    def ended(self) -> bool:
        """Whether nobody plays any more."""
        return self.row.shape[1] == 0

    def block(self) -> None:
        """The next time steps; who is through with an episode is scored and goes on."""
        luck, problem = self.solver.luck, self.solver.problem
        # Time step 0 was spent on the start.
        moment = Moment(self.agent, self.episode, self.time_step + 1)
        moves = self.world.moves(luck, moment, BLOCK)
        noise = problem.noise(luck, moment, BLOCK)
        explore = choose = moves
        if self.world.actions > 1:
            explore = luck.uniforms(Purpose.EXPLORE, moment, BLOCK)
            choose = luck.uniforms(Purpose.CHOOSE, moment, BLOCK)
        sign = problem.sign(self.episode).to(self.coefficient.dtype)
        self.trace.flush()
        # What everybody would learn from: who has diverged is looked up after the block.
        self.learnt: list[tuple[Tensor, Tensor]] = []
        for i in range(BLOCK):
            disturbance = None if noise is None else noise[i]
            self._transition(Chances(moves[i], disturbance, explore[i], choose[i]), sign)
        self._note_diverged()
        through = ~self.running.any(0)
        self._score(through)
        alive = (self.solver.diverged_episode[self.row] == 0).any(0)
        again = through & (self.episode < self.last) & alive
        finished = through & ~again
        if finished.double().mean() > FINISHED_SHARE:
            self._leave_out(finished)
            again = again[~finished]
        if again.any():
            self._begin(again)

    def _transition(self, chances: Chances, sign: Float[Tensor, " players"]) -> None:
        """Everybody acts once and learns from what came."""
        problem, method = self.solver.problem, self.solver.method
        outcome = self.world.step(self.state, self.action, chances.move)
        reward = outcome.reward * sign
        if chances.noise is not None:
            reward = (reward + chances.noise).to(reward.dtype)
        discount_t = bootstrap_discount(problem.discount, outcome.terminated).to(reward.dtype)
        next_index, next_features = self.world.features(outcome.next_state)
        next_action, target, decay = self._look_ahead(next_index, next_features, chances)

        index = self.index * self.world.actions + self.action[..., None]
        weights = self.weights.take(self.offset + index)
        value = self._total(weights, self.features)
        td_error = reward + discount_t * target.value - value
        self.running = self.running & (td_error.abs() <= self.solver.divergence_bound)

        visit = self._visit(td_error, weights, index, target, discount_t)
        gain = self.rule.gain(visit)
        amount = gain if self._all_ones(self.features) else gain * self.features
        self.trace.scale(self.carry)
        if method.true_online:
            amount = amount * (1 - (self.trace.at(index) * self.features).sum(-1, keepdim=True))
        self.trace.enter(index, amount)
        if outcome.ratio is not None:
            self.trace.scale(outcome.ratio[None])
        step = self.rule.step(visit)
        self.learnt.append((td_error, step))
        step = torch.where(self.running, step, 0.0)
        if method.true_online:
            # What the weights have moved this state's value since it was bootstrapped from.
            moved = torch.where(self.running & (self.time_step > 0), value - self.value_before, 0.0)
            self._correct(visit, moved, gain)
            step = step + moved
        self._learn(visit, step)
        self._remember(visit)

        self.carry = self.trace_decay if decay is None else self.trace_decay * decay
        self.value_before = target.value
        self._move(outcome, next_action)
        self.index, self.features = next_index, next_features

    def _move(self, outcome: Outcome, next_action: Int[Tensor, " players"]) -> None:
        """On to the next state, or the end of the episode by its own rules or by time."""
        problem = self.solver.problem
        if not self.solver.method.predicts:
            self.returns = self.returns + torch.where(self.running, outcome.reward, 0.0)
        self.time_step = self.time_step + 1
        truncated = self.time_step >= problem.max_episode_steps
        self.over = self.over | outcome.terminated | truncated
        self.running = self.running & ~self.over
        self.state, self.action = outcome.next_state, next_action

    def _look_ahead(
        self,
        index: Int[Tensor, "players k"],
        features: Float[Tensor, "#players #k"],
        chances: Chances,
    ) -> tuple[Int[Tensor, " players"], Target, Float[Tensor, " players"] | None]:
        """The next action, what is bootstrapped from, and 0 where the trace must be cut.

        The action is chosen before the update, as SARSA needs it; Watkins's trace is cut where it
        is not the best one.
        """
        method, actions = self.solver.method, self.world.actions
        if actions == 1:
            value = self._total(self.weights.take(self.offset + index), features)
            return self.action, Target(value, index, features), None
        values = self._action_values(index, features)
        best, greedy = values.max(-1)
        action = self._choose(values, chances.explore, chances.choose)
        chosen = values.gather(-1, action[..., None]).squeeze(-1)
        decay = None
        match method.algorithm:
            case "sarsa":
                value, entered = chosen, action
            case "expected-sarsa":
                explored = method.exploration * values.mean(-1)
                value, entered = (1 - method.exploration) * best + explored, greedy
            case _:
                value, entered, decay = best, greedy, (chosen == best).to(best.dtype)
        return action, Target(value, index * actions + entered[..., None], features), decay

    @staticmethod
    def _all_ones(features: Float[Tensor, "#players #k"]) -> bool:
        """Whether the features that are not 0 are 1, as in a table."""
        return features.numel() == 1

    def _total(
        self, weights: Float[Tensor, "groups players k"], features: Float[Tensor, "#players #k"]
    ) -> Float[Tensor, "groups players"]:
        """The value: weights . features."""
        if weights.shape[-1] == 1 and self._all_ones(features):
            return weights.squeeze(-1)
        return (weights * features).sum(-1)

    def _action_values(
        self, index: Int[Tensor, "players k"], features: Float[Tensor, "#players #k"]
    ) -> Float[Tensor, "players actions"]:
        """The values of the one group's actions."""
        actions = torch.arange(self.world.actions, device=index.device)
        entries = (self.offset[0] + index * self.world.actions)[..., None] + actions
        return (self.weights.take(entries) * features[..., None]).sum(-2)

    def _choose(
        self,
        values: Float[Tensor, "players actions"],
        explore: Float[Tensor, " players"],
        choose: Float[Tensor, " players"],
    ) -> Int[Tensor, " players"]:
        """Epsilon-greedy action, ties broken at random."""
        explores = explore < self.solver.method.exploration
        candidates = (values == values.amax(-1, keepdim=True)) | explores[..., None]
        rank = (choose * candidates.sum(-1)).long()
        return (candidates.cumsum(-1) > rank[..., None]).byte().argmax(-1)

    def _visit(
        self,
        td_error: Float[Tensor, "groups players"],
        weights: Float[Tensor, "groups players k"],
        index: Int[Tensor, "players k"],
        target: Target,
        discount_t: Float[Tensor, " players"],
    ) -> Visit:
        """What the rule may read, with its memory of these entries and agents."""
        solver, rule = self.solver, self.rule
        entry: dict[str, Tensor] = {}
        if rule.entry_memory:
            columns = solver.entry_memory.flatten(0, 1)[self.place + index]
            entry = dict(zip(rule.entry_memory, columns.unbind(-1), strict=True))
        if rule.accumulates:
            entry["sum"] = self.memory[0].take(self.offset + index)
        agent: dict[str, Tensor] = {}
        if rule.agent_memory:
            columns = solver.agent_memory[self.row]
            agent = dict(zip(rule.agent_memory, columns.unbind(-1), strict=True))
        return Visit(
            self.coefficient,
            td_error,
            weights,
            self.features,
            index,
            target.entries,
            target.features,
            discount_t,
            entry,
            agent,
            self.trace,
        )

    def _correct(
        self,
        visit: Visit,
        moved: Float[Tensor, "groups players"],
        gain: Float[Tensor, "groups players k"],
    ) -> None:
        """True online TD's term -moved * gain * features (van Seijen et al. 2016, eq. 12)."""
        flat = (self.offset + visit.index).flatten()
        amount = moved[..., None] * gain * self.features
        self.weights.view(-1).index_add_(0, flat, -amount.flatten())

    def _learn(self, visit: Visit, step: Float[Tensor, "groups players"]) -> None:
        """Change the weights along the trace, and what sums along with them."""
        rule, running = self.rule, self.running[..., None]
        if isinstance(rule, ElementRule):
            update = visit.td_error[..., None] * self.trace.values
            mean, square = self.memory.clone()
            direction = rule.direction(visit, update, mean, square)
            self.memory = torch.where(running, torch.stack([mean, square]), self.memory)
            self.weights.add_(torch.where(running, step[..., None] * direction, 0.0))
            return
        if rule.accumulates:
            flat = self.offset + visit.index
            new = torch.where(running, visit.entry["sum"], self.memory[0].take(flat))
            self.memory[0].view(-1)[flat] = new
        if self.plain_trace is not None:
            self.plain_trace.scale(self.carry)
            self.plain_trace.enter(visit.index, self.features.expand_as(visit.weights))
            error = torch.where(self.running, visit.td_error, 0.0)
            self.plain_trace.credit(self.memory[0], self.offset, error)
        if rule.accumulates == "updates":
            self.trace.credit(self.memory[0], self.offset, step)
        self.trace.credit(self.weights, self.offset, step)

    def _remember(self, visit: Visit) -> None:
        """Keep the rule's columns of those who play."""
        solver, rule = self.solver, self.rule
        if rule.entry_memory:
            memory, flat = solver.entry_memory.flatten(0, 1), self.place + visit.index
            new = torch.stack([visit.entry[name] for name in rule.entry_memory], -1)
            memory[flat] = torch.where(self.running[..., None, None], new, memory[flat])
        if rule.agent_memory:
            new = torch.stack([visit.agent[name] for name in rule.agent_memory], -1)
            old = solver.agent_memory[self.row]
            solver.agent_memory[self.row] = torch.where(self.running[..., None], new, old)

    def _note_diverged(self) -> None:
        """When and with what they diverged who stopped without their episode being over."""
        solver = self.solver
        lost = ~self.running & ~self.over & (solver.diverged_episode[self.row] == 0)
        if not lost.any():
            return
        errors, steps = (torch.stack(column)[:, lost] for column in zip(*self.learnt, strict=True))
        first = (~(errors.abs() <= solver.divergence_bound)).byte().argmax(0, keepdim=True)
        row, began = self.row[lost], (self.time_step - BLOCK).expand_as(lost)[lost]
        solver.diverged_episode[row] = self.episode.expand_as(lost)[lost]
        solver.diverged_time_step[row] = began + first[0] + 1
        solver.diverged_td_error[row] = errors.gather(0, first)[0]
        solver.diverged_step[row] = steps.gather(0, first)[0]

    def _score(self, through: Bool[Tensor, " players"]) -> None:
        """Note the value error (prediction) or the episode's return of who is through."""
        solver, row = self.solver, self.row[:, through]
        if solver.method.predicts:
            weights = self.weights[:, through] if solver.dense else solver.weights[row]
            score = solver.value_error(weights, self.episode[through])
        else:
            score = self.returns[:, through].double()
        number = (self.episode[through] - self.first_episode).expand_as(row)
        self.scores[number, row] = score

    def _leave_out(self, finished: Bool[Tensor, " players"]) -> None:
        """Go on with the others."""
        self._put_back(finished)
        kept = ~finished
        for name in OF_A_PLAYER:
            setattr(self, name, getattr(self, name)[kept])
        for name in OF_A_ROW:
            value = getattr(self, name)
            setattr(self, name, value[..., kept, :] if name == "place" else value[..., kept])
        if len(self.features) > 1:
            self.features = self.features[kept]
        for trace in (self.trace, self.plain_trace):
            if trace is not None:
                trace.keep(kept)
        self.offset = self.place
        if self.solver.dense:
            self.weights, self.memory = self.weights[:, kept], self.memory[:, :, kept]
            self.offset = self._own_offset()

    def put_back(self) -> Float[Tensor, "episodes rows"]:
        """Give the solver what is left; the scores, missing where an agent had diverged."""
        self._put_back(torch.ones_like(self.over))
        return self.scores

    def _put_back(self, which: Bool[Tensor, " players"]) -> None:
        solver, row = self.solver, self.row[:, which]
        if solver.dense:
            solver.weights[row] = self.weights[:, which]
            solver.dense_memory[:, row] = self.memory[:, :, which]
