"""Refuse bad input where it enters, saying what was wrong, the value, and the remedy.

One family, used at the head of every public function and in every constructor:

    kind(name, value, Process)      an object of the right kind, else TypeError
    function(name, value)           something that can be called, else TypeError
    traced(name, f, *shapes)        a function that JAX can follow, and what it returns, else TypeError
    called(name, f, *arguments)     what a user's function returns; its own ValueError or TypeError with its name
    is_traced, any_traced           whether JAX is tracing a value, or anything in a tree
    text, choice, flag, key         a text, one of several words, True or False, one JAX key
    number, count                   one number, or an array of them; a whole number, else ValueError: go on with what
                                    they return, as whole numbers of NumPy's own types wrap around
    numbers, points, box, ...       arrays of the right shape, else ValueError

The wrong kind of object is a TypeError; a number, an array or a word that does not fit is a ValueError, and so is
something that is no number at all where a number belongs. Values traced by JAX pass: they have no value yet.
"""

from flatdyn.core.checks.arrays import answers as answers
from flatdyn.core.checks.arrays import bound as bound
from flatdyn.core.checks.arrays import box as box
from flatdyn.core.checks.arrays import coordinates as coordinates
from flatdyn.core.checks.arrays import covariance as covariance
from flatdyn.core.checks.arrays import flags as flags
from flatdyn.core.checks.arrays import interval as interval
from flatdyn.core.checks.arrays import labels as labels
from flatdyn.core.checks.arrays import multipliers as multipliers
from flatdyn.core.checks.arrays import numbers as numbers
from flatdyn.core.checks.arrays import point as point
from flatdyn.core.checks.arrays import points as points
from flatdyn.core.checks.arrays import reals as reals
from flatdyn.core.checks.arrays import row as row
from flatdyn.core.checks.arrays import symbols as symbols
from flatdyn.core.checks.arrays import symmetric as symmetric
from flatdyn.core.checks.arrays import tree as tree
from flatdyn.core.checks.arrays import wholes as wholes
from flatdyn.core.checks.objects import any_traced as any_traced
from flatdyn.core.checks.objects import called as called
from flatdyn.core.checks.objects import choice as choice
from flatdyn.core.checks.objects import flag as flag
from flatdyn.core.checks.objects import function as function
from flatdyn.core.checks.objects import is_traced as is_traced
from flatdyn.core.checks.objects import key as key
from flatdyn.core.checks.objects import kind as kind
from flatdyn.core.checks.objects import listed as listed
from flatdyn.core.checks.objects import mapping as mapping
from flatdyn.core.checks.objects import sequence as sequence
from flatdyn.core.checks.objects import shown as shown
from flatdyn.core.checks.objects import text as text
from flatdyn.core.checks.objects import traced as traced
from flatdyn.core.checks.values import count as count
from flatdyn.core.checks.values import counts as counts
from flatdyn.core.checks.values import entries as entries
from flatdyn.core.checks.values import exact as exact
from flatdyn.core.checks.values import floats as floats
from flatdyn.core.checks.values import in_range as in_range
from flatdyn.core.checks.values import number as number
from flatdyn.core.checks.values import plain as plain
from flatdyn.core.checks.values import real as real
from flatdyn.core.checks.values import squarable as squarable
from flatdyn.core.checks.values import whole as whole
