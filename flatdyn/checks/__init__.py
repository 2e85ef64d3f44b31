"""Refuse bad input where it enters, saying what was wrong, the value, and the remedy.

One family, used at the head of every public function and in every constructor:

    kind(name, value, Process)      an object of the right kind, else TypeError
    function(name, value)           something that can be called, else TypeError
    traced(name, f, *shapes)        a function that JAX can follow, and what it returns, else TypeError
    called(name, f, *arguments)     what a user's function returns; its own ValueError or TypeError with its name
    text, choice, flag, key         a text, one of several words, True or False, one JAX key
    number, count                   one number, or an array of them; a whole number, else ValueError: go on with what
                                    they return, as whole numbers of NumPy's own types wrap around
    numbers, points, box, ...       arrays of the right shape, else ValueError

The wrong kind of object is a TypeError; a number, an array or a word that does not fit is a ValueError, and so is
something that is no number at all where a number belongs. Values traced by JAX pass: they have no value yet.
"""

from flatdyn.checks.arrays import answers as answers
from flatdyn.checks.arrays import bound as bound
from flatdyn.checks.arrays import box as box
from flatdyn.checks.arrays import coordinates as coordinates
from flatdyn.checks.arrays import covariance as covariance
from flatdyn.checks.arrays import flags as flags
from flatdyn.checks.arrays import interval as interval
from flatdyn.checks.arrays import labels as labels
from flatdyn.checks.arrays import multipliers as multipliers
from flatdyn.checks.arrays import numbers as numbers
from flatdyn.checks.arrays import point as point
from flatdyn.checks.arrays import points as points
from flatdyn.checks.arrays import reals as reals
from flatdyn.checks.arrays import row as row
from flatdyn.checks.arrays import symbols as symbols
from flatdyn.checks.arrays import symmetric as symmetric
from flatdyn.checks.arrays import tree as tree
from flatdyn.checks.arrays import wholes as wholes
from flatdyn.checks.objects import called as called
from flatdyn.checks.objects import choice as choice
from flatdyn.checks.objects import flag as flag
from flatdyn.checks.objects import function as function
from flatdyn.checks.objects import key as key
from flatdyn.checks.objects import kind as kind
from flatdyn.checks.objects import mapping as mapping
from flatdyn.checks.objects import sequence as sequence
from flatdyn.checks.objects import shown as shown
from flatdyn.checks.objects import text as text
from flatdyn.checks.objects import traced as traced
from flatdyn.checks.values import count as count
from flatdyn.checks.values import counts as counts
from flatdyn.checks.values import entries as entries
from flatdyn.checks.values import floats as floats
from flatdyn.checks.values import in_range as in_range
from flatdyn.checks.values import number as number
from flatdyn.checks.values import plain as plain
from flatdyn.checks.values import real as real
from flatdyn.checks.values import whole as whole
