"""How sharp is it here? Hessian eigenvalues and their density, slices of the loss, sharpness at a radius.

Every function takes the loss as a landscape, or as a JAX function of an array or of a tree of parameters, and a
point in the same form. No function stores a matrix beyond a few hundred parameters: curvature comes from products of
the Hessian with vectors.

    extreme_eigenvalues, density        at a point
    sharpness, slice1d, slice2d         around it
    TopEigenvalues, BatchSharpness,     along runs: `observe={"name": ...}` of simulate, `watch=` of networks.train
    GradientNorm, UpdateNorm, Distance

Example:
    >>> import flatdyn as fd
    >>> spectrum = fd.curvature.extreme_eigenvalues(fd.landscapes.saddle((3.0, -1.0)), [0.0, 0.0])
    >>> print(f"{spectrum.largest:.6f} {spectrum.smallest:.6f}")
    3.000000 -1.000000
"""

from flatdyn.curvature.ball import Sharpness as Sharpness
from flatdyn.curvature.ball import sharpness as sharpness
from flatdyn.curvature.densities import Density as Density
from flatdyn.curvature.densities import density as density
from flatdyn.curvature.krylov import hessian_product as hessian_product
from flatdyn.curvature.observers import BatchSharpness as BatchSharpness
from flatdyn.curvature.observers import Distance as Distance
from flatdyn.curvature.observers import GradientNorm as GradientNorm
from flatdyn.curvature.observers import TopEigenvalues as TopEigenvalues
from flatdyn.curvature.observers import UpdateNorm as UpdateNorm
from flatdyn.curvature.slices import Line as Line
from flatdyn.curvature.slices import Plane as Plane
from flatdyn.curvature.slices import filter_normalised as filter_normalised
from flatdyn.curvature.slices import interpolate as interpolate
from flatdyn.curvature.slices import slice1d as slice1d
from flatdyn.curvature.slices import slice2d as slice2d
from flatdyn.curvature.spectra import Spectrum as Spectrum
from flatdyn.curvature.spectra import extreme_eigenvalues as extreme_eigenvalues
