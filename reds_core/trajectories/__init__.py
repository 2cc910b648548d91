"""From a seed along a direction: waypoint after waypoint, many trajectories at once.

trajectory   what every method starts from and returns: directions, waypoints, why a trajectory ended
published    linear and local, the published methods
tangent      the coordinates that corrected trajectories move in, and how far out is still plausible
held         what corrected trajectories hold, as a residual, and the move that takes a change of it away
pool         corrected trajectories under way, and the sub-step that each is trying
updates      how their Jacobians are updated on the way
corrected    predictor and corrector: every waypoint is brought back to what is held
"""
