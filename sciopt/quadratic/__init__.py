"""Quadratic programs with bounds, costs and a budget, solved exactly, each with its certificate."""
